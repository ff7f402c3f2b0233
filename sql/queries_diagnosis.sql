-- What is asked about one user by who wants to know why: nobody is locked, nothing is written.

-- name: person
-- Whether a user is known at all, for which version of the catalog, and whether the user waits to be folded again.
SELECT u.user_id IS NOT NULL
       OR EXISTS (SELECT 1 FROM events e WHERE e.user_id = w.user_id)
       OR EXISTS (SELECT 1 FROM badge_awards_log l WHERE l.user_id = w.user_id) AS known,
       u.built_version,
       q.user_id IS NOT NULL AS queued
FROM (SELECT $1::text COLLATE "C" AS user_id) AS w
LEFT JOIN users u ON u.user_id = w.user_id
LEFT JOIN recompute_queue q ON q.user_id = w.user_id;

-- name: awards_of
-- The awards that a user holds, newest first, with what the log says of each.
SELECT b.badge_key, b.context, b.awarded_at, b.source, b.origin, b.sequence, b.award_id, b.catalog_version,
       b.trigger_id, b.trigger_type, b.sort_override, b.metadata, l.reason,
       (SELECT d.hash FROM badge_definitions d
        WHERE d.badge_key = b.badge_key AND d.version <= b.catalog_version
        ORDER BY d.version DESC LIMIT 1) AS definition
FROM user_badges b
LEFT JOIN badge_awards_log l ON l.user_id = b.user_id AND l.sequence = b.sequence
WHERE b.user_id = $1
ORDER BY b.awarded_at DESC, b.sequence DESC
LIMIT $2;

-- name: withheld_of
-- The awards of a user that are held back, dropped or taken away for good.
SELECT w.badge_key, w.context, w.state, w.awarded_at, w.origin, w.reason, w.withheld_at,
       e.payload ->> 'actor' AS actor
FROM withheld_awards w
LEFT JOIN events e ON e.user_id = w.user_id AND e.source = 'badges' AND e.id = w.trigger_id AND e.type = 'grant.revoked'
WHERE w.user_id = $1
ORDER BY w.withheld_at DESC, w.badge_key, w.context
LIMIT $2;

-- name: revocations_of
-- What was taken back from a user, newest first.
SELECT l.badge_key, l.context, l.source, l.origin, l.sequence, l.reason, l.logged_at, e.payload ->> 'actor' AS actor
FROM badge_awards_log l
LEFT JOIN events e ON e.user_id = l.user_id AND e.source = 'badges' AND e.id = l.trigger_id AND e.type = 'grant.revoked'
WHERE l.user_id = $1 AND l.kind = 'revoked'
ORDER BY l.sequence DESC
LIMIT $2;

-- name: letters_of
-- The newest dead letters of a user: by the user in them where that could be read, else by the record's key.
SELECT topic, partition, "offset", reason, detail, path, buried_at, state, raw
FROM dead_letters
WHERE user_id = $1 OR (user_id IS NULL AND sha256(key) = sha256($2))
ORDER BY number DESC
LIMIT $3;

-- name: build_share
-- How many of all users the build of a version has passed; nothing where it has not begun.
SELECT b.done_at IS NOT NULL AS done,
       (SELECT count(*) FROM users WHERE user_id <= b.after) AS passed,
       (SELECT count(*) FROM users) AS users
FROM catalog_builds b WHERE b.version = $1;

-- name: note_definitions
-- Note what badges take from a version on, where it is not what they took before.
INSERT INTO badge_definitions (badge_key, version, hash)
SELECT n.badge_key, $3, n.hash
FROM unnest($1::text[], $2::text[]) AS n (badge_key, hash)
LEFT JOIN LATERAL (
    SELECT d.hash FROM badge_definitions d WHERE d.badge_key = n.badge_key ORDER BY d.version DESC LIMIT 1
) AS last ON true
WHERE last.hash IS DISTINCT FROM n.hash;
