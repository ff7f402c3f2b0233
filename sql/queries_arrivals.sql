-- The log in the order of its arrival: how far it was read, what is counted of it.

-- name: take_reader
-- Lock a reader and say how far it is: everything that arrived before `upto`, of the users up to `after` while it
-- begins. What arrived before `horizon` is all there: a transaction that appends to the log holds the lock of the
-- catalog, and its events arrived when it began. Under another rule, or where it is missing, the reader begins.
WITH writers AS (
    SELECT min(coalesce(a.xact_start, clock_timestamp() - interval '1 minute')) AS oldest
    FROM pg_locks l JOIN pg_stat_activity a USING (pid)
    WHERE l.locktype = 'advisory' AND l.objsubid = 2 AND l.classid = $3::bigint::oid AND l.objid = $4::bigint::oid
      AND l.pid <> pg_backend_pid()
), horizon AS (
    SELECT least(clock_timestamp() - interval '5 seconds', oldest) AS at FROM writers
), taken AS (
    INSERT INTO log_readers AS r (name, rule, upto) SELECT $1, $2, at FROM horizon
    ON CONFLICT (name) DO UPDATE
    SET rule = excluded.rule,
        upto = CASE WHEN r.rule = excluded.rule THEN r.upto ELSE excluded.upto END,
        after = CASE WHEN r.rule = excluded.rule THEN r.after ELSE '' END
    RETURNING upto, after
)
SELECT taken.upto, taken.after, horizon.at AS horizon FROM taken, horizon;

-- name: move_reader
-- Write down how far a reader is.
UPDATE log_readers SET upto = $2, after = $3 WHERE name = $1;

-- name: count_arrivals
-- Count the events that arrived in a span, by type and day, and note when users were last active; what never counts as
-- activity is named by patterns.
WITH fresh AS MATERIALIZED (
    SELECT user_id, type, received_at::date AS day, count(*) AS events, max(received_at) AS last_at,
           max(occurred_at) AS newest_at
    FROM events WHERE received_at >= $1 AND received_at < $2
    GROUP BY user_id, type, received_at::date
), counted AS (
    INSERT INTO event_days AS d (type, day, events, last_at)
    SELECT type, day, sum(events), max(last_at) FROM fresh GROUP BY type, day ORDER BY type, day
    ON CONFLICT (type, day) DO UPDATE
    SET events = d.events + excluded.events, last_at = greatest(d.last_at, excluded.last_at)
), active AS (
    INSERT INTO user_activity AS a (user_id, newest_at)
    SELECT user_id, max(newest_at) FROM fresh WHERE type NOT LIKE ALL ($3::text[]) GROUP BY user_id ORDER BY user_id
    ON CONFLICT (user_id) DO UPDATE SET newest_at = excluded.newest_at WHERE excluded.newest_at > a.newest_at
)
SELECT coalesce(sum(events), 0)::bigint AS events, count(DISTINCT user_id) AS users FROM fresh;

-- name: count_first_arrivals
-- The same for what arrived of some users before an instant.
WITH fresh AS MATERIALIZED (
    SELECT user_id, type, received_at::date AS day, count(*) AS events, max(received_at) AS last_at,
           max(occurred_at) AS newest_at
    FROM events WHERE user_id = ANY ($1::text[]) AND received_at < $2
    GROUP BY user_id, type, received_at::date
), counted AS (
    INSERT INTO event_days AS d (type, day, events, last_at)
    SELECT type, day, sum(events), max(last_at) FROM fresh GROUP BY type, day ORDER BY type, day
    ON CONFLICT (type, day) DO UPDATE
    SET events = d.events + excluded.events, last_at = greatest(d.last_at, excluded.last_at)
), active AS (
    INSERT INTO user_activity AS a (user_id, newest_at)
    SELECT user_id, max(newest_at) FROM fresh WHERE type NOT LIKE ALL ($3::text[]) GROUP BY user_id ORDER BY user_id
    ON CONFLICT (user_id) DO UPDATE SET newest_at = excluded.newest_at WHERE excluded.newest_at > a.newest_at
)
SELECT coalesce(sum(events), 0)::bigint AS events, count(DISTINCT user_id) AS users FROM fresh;

-- name: forget_gone_users
-- Let go of users that are no more.
WITH joined AS (
    DELETE FROM user_tenures t WHERE NOT EXISTS (SELECT 1 FROM users u WHERE u.user_id = t.user_id)
)
DELETE FROM user_activity a WHERE NOT EXISTS (SELECT 1 FROM users u WHERE u.user_id = a.user_id);

-- name: close_day
-- Write how many users were active when a day ended, or are so far: those with an event after an instant.
INSERT INTO activity_days (day, active_days, active_users, users)
SELECT $1, $2, count(*) FILTER (WHERE newest_at > $3), count(*) FROM user_activity
ON CONFLICT (day) DO UPDATE
SET active_days = excluded.active_days, active_users = excluded.active_users, users = excluded.users;

-- name: active_users
-- How many users were active at the end of the last day that was closed.
SELECT day, active_days, active_users, users FROM activity_days ORDER BY day DESC LIMIT 1;

-- name: trigger_days
-- Of each of these types when the last event arrived, and the days before that one, 28 at most, that had any.
SELECT t.type, l.last_at, l.day AS last_day, f.day AS first_day,
       coalesce(d.days, '{}') AS days, coalesce(d.events, '{}') AS events, l.events AS last_events
FROM unnest($1::text[]) AS t (type)
CROSS JOIN LATERAL (SELECT * FROM event_days WHERE type = t.type ORDER BY day DESC LIMIT 1) AS l
CROSS JOIN LATERAL (SELECT day FROM event_days WHERE type = t.type ORDER BY day LIMIT 1) AS f
LEFT JOIN LATERAL (
    SELECT array_agg(day ORDER BY day) AS days, array_agg(events ORDER BY day) AS events
    FROM event_days WHERE type = t.type AND day >= l.day - 28 AND day < l.day
) AS d ON true;

-- name: arrivals_read
-- Up to when arrivals are counted; nothing while that begins.
SELECT upto FROM log_readers WHERE name = $1 AND after IS NULL;
