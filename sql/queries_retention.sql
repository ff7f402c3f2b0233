-- ================================================================ retention

-- name: move_floor
-- Refuse events of a type that are older than an instant; a floor never goes back.
INSERT INTO retention_floors AS f (type, floor) VALUES ($1, $2)
ON CONFLICT (type) DO UPDATE SET floor = excluded.floor WHERE f.floor < excluded.floor;

-- name: users_to_cut
-- The next users after one, and whether they have events of some types below their floors.
SELECT u.user_id,
       EXISTS (
           SELECT 1 FROM events e
           JOIN unnest($3::text[], $4::timestamptz[]) AS f (type, floor) ON e.type = f.type AND e.occurred_at < f.floor
           WHERE e.user_id = u.user_id AND e.occurred_at < $5
       ) AS due
FROM (SELECT user_id FROM users WHERE user_id > $1 ORDER BY user_id LIMIT $2) AS u
ORDER BY u.user_id;

-- name: cut_events
-- Remove a user's events of some types below their floors.
DELETE FROM events e
USING unnest($2::text[], $3::timestamptz[]) AS f (type, floor)
WHERE e.user_id = $1 AND e.type = f.type AND e.occurred_at < f.floor;

-- name: sealed_state
-- The memory of a user's that retention sealed.
SELECT scope, newest_at, newest_source, newest_id, types, state FROM sealed_states WHERE user_id = $1;

-- name: unseal
-- Make room for a later seal.
DELETE FROM sealed_states WHERE user_id = $1;

-- name: seal
-- Write down the memory of a user at the cut.
INSERT INTO sealed_states (user_id, scope, newest_at, newest_source, newest_id, types, state)
SELECT $1, scope, $4, $5, $6, $7::text[], state FROM unnest($2::text[], $3::bytea[]) AS s (scope, state);

-- name: prune_letters
-- Remove dead letters that came so many days ago, at most so many at once.
DELETE FROM dead_letters WHERE number IN (
    SELECT number FROM dead_letters WHERE buried_at < clock_timestamp() - make_interval(days => $1)
    ORDER BY number LIMIT $2
);
