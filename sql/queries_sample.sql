-- Some users, the same ones for the same seed: what a smoke test tries a catalog on.

-- name: sample_users
-- So many users in an order that the seed makes; whoever joins or leaves moves nobody else.
SELECT user_id FROM users ORDER BY md5($1::text || user_id), user_id LIMIT $2;
