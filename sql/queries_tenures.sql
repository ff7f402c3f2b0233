-- On which local day users joined, and who has an anniversary.

-- name: tenures_touched
-- Of what arrived in a span: users of whom an event came from which years are counted, and users who are known and whose
-- zone was named; at most so many.
SELECT user_id, bool_or(type = ANY ($3::text[])) AS joined
FROM events e
WHERE received_at >= $1 AND received_at < $2
  AND (type = ANY ($3::text[])
       OR (type = $4 AND EXISTS (SELECT 1 FROM user_tenures t WHERE t.user_id = e.user_id)))
GROUP BY user_id ORDER BY user_id
LIMIT $5;

-- name: tenures_known
-- What is known of some users.
SELECT user_id, type, since_at, since_source, since_id FROM user_tenures WHERE user_id = ANY ($1::text[]);

-- name: tenures_since
-- The first event of each of some types of each of some users.
SELECT u.user_id, t.type, e.occurred_at, e.source, e.id
FROM unnest($1::text[]) AS u (user_id)
CROSS JOIN unnest($2::text[]) AS t (type)
CROSS JOIN LATERAL (
    SELECT occurred_at, source, id FROM events
    WHERE user_id = u.user_id AND type = t.type
    ORDER BY occurred_at, source, id LIMIT 1
) AS e;

-- name: zones_at
-- The zone that each user had named last up to a place in the order of events, and when; by the places of the arrays,
-- users who had named none left out.
SELECT w.place, z.zone, z.occurred_at
FROM unnest($1::text[], $2::timestamptz[], $3::text[], $4::text[]) WITH ORDINALITY
    AS w (user_id, at, source, id, place)
CROSS JOIN LATERAL (
    SELECT f.zone, e.occurred_at
    FROM events e
    CROSS JOIN LATERAL (
        SELECT CASE WHEN e.payload ? $6 THEN e.payload ->> $6 ELSE e.payload #>> string_to_array($6, '.') END AS zone
    ) AS f
    WHERE e.user_id = w.user_id AND e.type = $5 AND e.occurred_at <= w.at
      AND (e.occurred_at, e.source, e.id) <= (w.at, w.source, w.id) AND f.zone = ANY ($7::text[])
    ORDER BY e.occurred_at DESC, e.source DESC, e.id DESC
    LIMIT 1
) AS z
ORDER BY w.place;

-- name: save_tenures
-- Write what is known of users now.
INSERT INTO user_tenures AS t
    (user_id, type, day, month_day, zone, zone_at, changed, since_at, since_source, since_id)
SELECT user_id, type, day, month_day, zone, zone_at, $10, since_at, since_source, since_id
FROM unnest($1::text[], $2::text[], $3::date[], $4::smallint[], $5::text[], $6::timestamptz[], $7::timestamptz[],
            $8::text[], $9::text[])
    AS n (user_id, type, day, month_day, zone, zone_at, since_at, since_source, since_id)
ORDER BY user_id, type
ON CONFLICT (user_id, type) DO UPDATE
SET day = excluded.day, month_day = excluded.month_day, zone = excluded.zone, zone_at = excluded.zone_at,
    changed = t.changed OR excluded.changed, since_at = excluded.since_at, since_source = excluded.since_source,
    since_id = excluded.since_id
WHERE (t.day, t.zone, t.since_at, t.since_source, t.since_id)
      IS DISTINCT FROM (excluded.day, excluded.zone, excluded.since_at, excluded.since_source, excluded.since_id);

-- name: drop_tenures
-- Let go of the types from which no years are counted any more, at most so many rows.
DELETE FROM user_tenures WHERE (user_id, type) IN (
    SELECT user_id, type FROM user_tenures WHERE type <> ALL ($1::text[]) LIMIT $2
);

-- name: tenure_zones
-- The zones of users who joined on a day of the year: by the index, one step a zone.
WITH RECURSIVE found AS (
    (SELECT zone FROM user_tenures WHERE type = $1 AND month_day = $2 ORDER BY zone LIMIT 1)
    UNION ALL
    SELECT (SELECT zone FROM user_tenures t WHERE type = $1 AND month_day = $2 AND t.zone > f.zone
            ORDER BY t.zone LIMIT 1)
    FROM found f WHERE f.zone IS NOT NULL
)
SELECT zone FROM found WHERE zone IS NOT NULL;

-- name: tenures_due
-- The next users of a zone who joined on a day of the year, in an earlier year.
SELECT user_id, zone_at FROM user_tenures
WHERE type = $1 AND month_day = $2 AND zone = $3 AND user_id > $4 AND day < $5
ORDER BY user_id
LIMIT $6;

-- name: tenures_changed
-- The next users whose day is to be looked at once more.
SELECT user_id, type, day, zone, zone_at FROM user_tenures
WHERE changed AND (user_id, type) > ($1, $2)
ORDER BY user_id, type
LIMIT $3;

-- name: tenures_seen
-- These users' days were looked at.
UPDATE user_tenures t SET changed = false
FROM unnest($1::text[], $2::text[]) AS s (user_id, type)
WHERE t.user_id = s.user_id AND t.type = s.type;
