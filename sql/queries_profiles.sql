-- What profile pages show: the awards of users, and the log of awards as it grows.

-- name: awards_of_users
-- The awards of some users, each row with the user's place in the array (from 1) and the version of the catalog that
-- rules; a user without awards has one row without a badge. `stamp` differs wherever what is shown of an award does.
SELECT (SELECT version FROM catalog_head WHERE single) AS version,
       w.place::integer AS place,
       b.badge_key, b.context, b.awarded_at, b.sort_override, b.origin, b.source, b.sequence, b.metadata,
       hash_record_extended(ROW(b.badge_key, b.context, b.awarded_at, b.sort_override, b.sequence), 0) AS stamp
FROM unnest($1::text[]) WITH ORDINALITY AS w (user_id, place)
LEFT JOIN user_badges b ON b.user_id = w.user_id;

-- name: stamps_of_users
-- Of some users, in the order of the array, the stamps of their awards in one, with the version of the catalog that
-- rules: what tells whether a profile is as it was, for a tenth of its bytes. No awards: 0. Two awards of a user never
-- share a sequence, so that none takes another's stamp away.
SELECT (SELECT version FROM catalog_head WHERE single) AS version, s.stamp
FROM unnest($1::text[]) WITH ORDINALITY AS w (user_id, place)
CROSS JOIN LATERAL (
    SELECT coalesce(bit_xor(
        hash_record_extended(ROW(b.badge_key, b.context, b.awarded_at, b.sort_override, b.sequence), 0)
    ), 0) AS stamp
    FROM user_badges b
    WHERE b.user_id = w.user_id
) s
ORDER BY w.place;

-- name: set_sort_override
-- Place an award of a user by hand on the profile, in one context or in all; null takes that back.
UPDATE user_badges SET sort_override = $4
WHERE user_id = $1 AND badge_key = $2 AND ($3::text IS NULL OR context = $3)
RETURNING context;

-- name: awards_page
-- The log of awards from a place on, newest first: between two instants, of one badge, one trigger, one origin.
SELECT user_id, badge_key, context, award_id, kind, awarded_at, source, origin, sequence, trigger_id, trigger_type,
       metadata, reason, logged_at
FROM badge_awards_log
WHERE logged_at >= $1 AND logged_at <= $2 AND (logged_at, user_id, sequence) < ($2, $3::text, $4::bigint)
  AND ($5::text IS NULL OR badge_key = $5)
  AND ($6::text IS NULL OR trigger_type = $6)
  AND ($7::text IS NULL OR origin = $7)
ORDER BY logged_at DESC, user_id DESC, sequence DESC
LIMIT $8;

-- name: awards_page_of_user
-- The same of one user.
SELECT user_id, badge_key, context, award_id, kind, awarded_at, source, origin, sequence, trigger_id, trigger_type,
       metadata, reason, logged_at
FROM badge_awards_log
WHERE user_id = $9
  AND logged_at >= $1 AND logged_at <= $2 AND (logged_at, user_id, sequence) < ($2, $3::text, $4::bigint)
  AND ($5::text IS NULL OR badge_key = $5)
  AND ($6::text IS NULL OR trigger_type = $6)
  AND ($7::text IS NULL OR origin = $7)
ORDER BY logged_at DESC, user_id DESC, sequence DESC
LIMIT $8;

-- name: feed_now
-- What is visible now, and the present.
SELECT pg_current_snapshot()::text AS snapshot, clock_timestamp() AS at;

-- name: feed_between
-- The awards logged that the one snapshot did not show and the other does, in the order of the log, after a place. Who
-- commits late was not shown, whatever instant its rows have: none is missed and none comes twice. Rows older than $3
-- are not looked at: no transaction lives so long. The log's xmin has 32 bits, a snapshot's numbers 64.
WITH bounds AS (
    SELECT pg_snapshot_xmax($2::text::pg_snapshot)::text::bigint AS top
), recent AS (
    SELECT l.*, (b.top - ((b.top - l.xmin::text::bigint) & 4294967295))::text::xid8 AS writer
    FROM badge_awards_log l, bounds b
    WHERE l.logged_at >= $3
      AND ($4::timestamptz IS NULL OR (l.logged_at, l.user_id, l.sequence) > ($4, $5::text, $6::bigint))
)
SELECT user_id, badge_key, context, award_id, kind, awarded_at, source, origin, sequence, trigger_id, trigger_type,
       metadata, reason, logged_at
FROM recent
WHERE NOT pg_visible_in_snapshot(writer, $1::text::pg_snapshot)
  AND pg_visible_in_snapshot(writer, $2::text::pg_snapshot)
ORDER BY logged_at, user_id, sequence
LIMIT $7;
