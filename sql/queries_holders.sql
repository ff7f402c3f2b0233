-- Who holds what, by day.

-- name: first_award
-- When the oldest award that is logged was logged: the log is read once for it.
SELECT min(logged_at) AS at FROM badge_awards_log;

-- name: count_holders
-- Count what was logged in a span that lies within one day: who holds a badge now and did not before, who no more does.
-- A badge that was never given with a context is given to a user once, until it is taken back: where it never was, the
-- award in the span is the first. Of all other users and badges of the span the user's whole log up to its end says
-- what was and what is.
WITH fresh AS MATERIALIZED (
    SELECT badge_key, user_id, bool_or(context <> '') AS contexts,
           count(*) FILTER (WHERE kind = 'awarded' AND origin <> 'backfill') AS awards,
           count(*) FILTER (WHERE kind = 'awarded' AND origin = 'backfill') AS backfilled
    FROM badge_awards_log WHERE logged_at >= $1 AND logged_at < $2
    GROUP BY badge_key, user_id
), before AS MATERIALIZED (
    SELECT f.badge_key, coalesce(b.holders, 0) AS holders, f.contexts OR coalesce(b.with_contexts, false) AS contexts
    FROM (SELECT badge_key, bool_or(contexts) AS contexts FROM fresh GROUP BY badge_key) AS f
    LEFT JOIN LATERAL (
        SELECT holders, with_contexts FROM badge_holders
        WHERE badge_key = f.badge_key AND day <= $3 ORDER BY day DESC LIMIT 1
    ) AS b ON true
), doubtful AS MATERIALIZED (
    SELECT f.badge_key, f.user_id, f.awards, f.backfilled, b.contexts OR EXISTS (
        SELECT 1 FROM badge_awards_log r
        WHERE r.user_id = f.user_id AND r.badge_key = f.badge_key AND r.kind = 'revoked'
    ) AS doubtful
    FROM fresh f JOIN before b ON b.badge_key = f.badge_key
), compared AS (
    SELECT badge_key, awards, backfilled, false AS was, true AS holds FROM doubtful WHERE NOT doubtful
    UNION ALL
    SELECT d.badge_key, d.awards, d.backfilled, coalesce(n.was, 0) > 0, coalesce(n.holds, 0) > 0
    FROM doubtful d
    CROSS JOIN LATERAL (
        SELECT sum(CASE kind WHEN 'awarded' THEN 1 ELSE -1 END) FILTER (WHERE logged_at < $1) AS was,
               sum(CASE kind WHEN 'awarded' THEN 1 ELSE -1 END) AS holds
        FROM badge_awards_log
        WHERE user_id = d.user_id AND badge_key = d.badge_key AND logged_at < $2
    ) AS n
    WHERE d.doubtful
), counted AS (
    SELECT badge_key, count(*) FILTER (WHERE holds AND NOT was) AS gained,
           count(*) FILTER (WHERE was AND NOT holds) AS lost,
           sum(awards)::bigint AS awards, sum(backfilled)::bigint AS backfilled, count(*) AS users
    FROM compared GROUP BY badge_key
), written AS (
    INSERT INTO badge_holders AS h (badge_key, day, holders, gained, lost, awards, backfilled, with_contexts)
    SELECT c.badge_key, $3, b.holders + c.gained - c.lost, c.gained, c.lost, c.awards, c.backfilled, b.contexts
    FROM counted c JOIN before b ON b.badge_key = c.badge_key
    ORDER BY c.badge_key
    ON CONFLICT (badge_key, day) DO UPDATE
    SET holders = excluded.holders, gained = h.gained + excluded.gained, lost = h.lost + excluded.lost,
        awards = h.awards + excluded.awards, backfilled = h.backfilled + excluded.backfilled,
        with_contexts = excluded.with_contexts
)
SELECT coalesce(sum(users), 0)::bigint AS users, coalesce(sum(awards + backfilled), 0)::bigint AS awards FROM counted;

-- name: lose_holdings
-- A user is being erased: take them out of the counts of what they hold, as far as it is counted.
WITH reader AS (
    SELECT upto FROM log_readers WHERE name = 'holders' FOR UPDATE
), held AS (
    SELECT l.badge_key FROM badge_awards_log l, reader r
    WHERE l.user_id = $1 AND l.logged_at < r.upto
    GROUP BY l.badge_key
    HAVING sum(CASE l.kind WHEN 'awarded' THEN 1 ELSE -1 END) > 0
)
INSERT INTO badge_holders AS h (badge_key, day, holders, lost)
SELECT d.badge_key, b.day, b.holders - 1, 1 FROM held d
CROSS JOIN LATERAL (
    SELECT day, holders FROM badge_holders WHERE badge_key = d.badge_key ORDER BY day DESC LIMIT 1
) AS b
ORDER BY d.badge_key
ON CONFLICT (badge_key, day) DO UPDATE SET holders = excluded.holders, lost = h.lost + 1;

-- name: prune_holders
-- Remove the days before one, but for the last of each badge, which says how many holders there were.
DELETE FROM badge_holders h
WHERE h.day < $1
  AND EXISTS (SELECT 1 FROM badge_holders n WHERE n.badge_key = h.badge_key AND n.day > h.day AND n.day <= $1);

-- name: write_users_with_badge
-- Take the counts over into the list of badges, where they differ.
UPDATE badges b SET users_with_badge = h.holders
FROM (
    SELECT k.key, coalesce(l.holders, 0) AS holders FROM badges k
    LEFT JOIN LATERAL (
        SELECT holders FROM badge_holders WHERE badge_key = k.key ORDER BY day DESC LIMIT 1
    ) AS l ON true
) AS h
WHERE b.key = h.key AND b.users_with_badge <> h.holders;

-- name: award_days
-- Awards of each badge on each day of a span that has any, and the first day of the badge.
SELECT h.badge_key, h.day, h.awards,
       (SELECT f.day FROM badge_holders f WHERE f.badge_key = h.badge_key ORDER BY f.day LIMIT 1) AS first_day
FROM badge_holders h WHERE h.day >= $1 AND h.day < $2;

-- name: save_baselines
-- Write what is usual on a day; badges that are left out have had no awards lately.
WITH gone AS (
    DELETE FROM badge_baselines WHERE badge_key <> ALL ($1::text[])
)
INSERT INTO badge_baselines (badge_key, day, usual, spread, days)
SELECT badge_key, $2, usual, spread, days
FROM unnest($1::text[], $3::float8[], $4::float8[], $5::integer[]) AS b (badge_key, usual, spread, days)
ORDER BY badge_key
ON CONFLICT (badge_key) DO UPDATE
SET day = excluded.day, usual = excluded.usual, spread = excluded.spread, days = excluded.days;

-- name: badge_baselines
-- What is usual of each badge.
SELECT badge_key, usual, spread, days FROM badge_baselines;

-- name: baselines_day
-- For which day it was last written what is usual.
SELECT max(day) AS day FROM badge_baselines;

-- name: holders_trend
-- A badge's days from one on, and the one before it that says how many holders there were until then.
SELECT day, holders, gained, lost, awards, backfilled FROM badge_holders
WHERE badge_key = $1
  AND day >= coalesce((SELECT max(day) FROM badge_holders WHERE badge_key = $1 AND day < $2), $2)
ORDER BY day;

-- name: awards_since
-- Awards of each badge that were logged since an instant, but for those that a backfill gave.
SELECT badge_key, count(*) AS awards FROM badge_awards_log
WHERE logged_at >= $1 AND kind = 'awarded' AND origin <> 'backfill'
GROUP BY badge_key;

-- name: active_holders
-- Of the next users after one: how many had an event after an instant (in the row without a badge, with the last user
-- that was looked at), and how many of those hold each badge.
WITH page AS MATERIALIZED (
    SELECT user_id, newest_at > $1 AS active FROM user_activity WHERE user_id > $2 ORDER BY user_id LIMIT $3
)
SELECT NULL AS badge_key, count(*) FILTER (WHERE active) AS users, max(user_id) AS last_user FROM page
UNION ALL
SELECT h.badge_key, count(*), NULL
FROM (SELECT DISTINCT b.badge_key, b.user_id FROM page p JOIN user_badges b ON b.user_id = p.user_id WHERE p.active) AS h
GROUP BY h.badge_key;

-- name: save_shares
-- Write how many active users hold each badge of the catalog; those that are left out nobody does.
INSERT INTO badge_shares AS s (badge_key, active_holders, active_users, active_days, counted_at)
SELECT b.key, coalesce(c.holders, 0), $3, $4, $5
FROM badges b LEFT JOIN unnest($1::text[], $2::bigint[]) AS c (badge_key, holders) ON c.badge_key = b.key
ORDER BY b.key
ON CONFLICT (badge_key) DO UPDATE
SET active_holders = excluded.active_holders, active_users = excluded.active_users,
    active_days = excluded.active_days, counted_at = excluded.counted_at;

-- name: badge_shares
-- How many active users hold each of these badges, or of all, and how many are active; as last counted.
SELECT badge_key, active_holders, active_users, active_days, counted_at FROM badge_shares
WHERE $1::text[] IS NULL OR badge_key = ANY ($1::text[]);

-- name: shares_counted
-- When shares were last counted, and of how many active users.
SELECT max(counted_at) AS at, coalesce(max(active_users), 0) AS users FROM badge_shares;
