-- What the panel's pages read; the form is that of queries.sql. Every list is a page by key, every count is cut off, and
-- what filters without an index looks at a bounded number of rows.

-- name: panel_awards
-- The newest awards since an instant, before a key (instant, user, number in the user's line).
SELECT user_id, sequence, badge_key, context, awarded_at, kind, origin, trigger_type, trigger_id, catalog_version,
       reason, logged_at
FROM badge_awards_log
WHERE logged_at >= $1 AND logged_at <= $2 AND (logged_at, user_id, sequence) < ($2, $3::text, $4::bigint)
ORDER BY logged_at DESC, user_id DESC, sequence DESC
LIMIT $5;

-- name: panel_awards_of
-- The same of some badges, trigger types and origins; so many of the newest are looked at.
SELECT user_id, sequence, badge_key, context, awarded_at, kind, origin, trigger_type, trigger_id, catalog_version,
       reason, logged_at
FROM (
    SELECT * FROM badge_awards_log
    WHERE logged_at >= $1 AND logged_at <= $2 AND (logged_at, user_id, sequence) < ($2, $3::text, $4::bigint)
    ORDER BY logged_at DESC, user_id DESC, sequence DESC
    LIMIT $8
) AS newest
WHERE ($5::text[] IS NULL OR badge_key = ANY ($5))
  AND ($6::text IS NULL OR trigger_type = $6)
  AND ($7::text IS NULL OR origin = $7)
ORDER BY logged_at DESC, user_id DESC, sequence DESC
LIMIT $9;

-- name: panel_awards_bound
-- The last one of those that are looked at, and the one after it, where there are so many.
SELECT logged_at, user_id, sequence FROM badge_awards_log
WHERE logged_at >= $1 AND logged_at <= $2 AND (logged_at, user_id, sequence) < ($2, $3::text, $4::bigint)
ORDER BY logged_at DESC, user_id DESC, sequence DESC
OFFSET $5 - 1 LIMIT 2;

-- name: panel_count_awards
-- How many awards were given since an instant, counted up to so many.
SELECT count(*) AS awards FROM (SELECT 1 FROM badge_awards_log WHERE logged_at >= $1 LIMIT $2) AS newest;

-- name: panel_count_letters
-- How many dead letters came since an instant, counted up to so many.
SELECT count(*) AS letters FROM (SELECT buried_at FROM dead_letters ORDER BY number DESC LIMIT $2) AS newest
WHERE buried_at >= $1;

-- name: panel_holders
-- How many users hold each badge. Reads every award: asked now and then, never for a page.
SELECT badge_key, count(DISTINCT user_id) AS users FROM user_badges GROUP BY badge_key;

-- name: panel_days
-- How many awards of each badge were logged on each day (of UTC, counted from 1970) since an instant. Asked now and then.
SELECT badge_key, (extract(epoch FROM logged_at)::bigint / 86400)::integer AS day, count(*) AS awards
FROM badge_awards_log
WHERE logged_at >= $1 AND kind = 'awarded'
GROUP BY badge_key, day;

-- name: panel_users
-- The next users whose id begins with a text, after one.
SELECT user_id, newest_at, built_version FROM users
WHERE user_id >= $1 AND user_id > $2 AND starts_with(user_id, $1)
ORDER BY user_id
LIMIT $3;

-- name: panel_user_awards
-- A user's awards, newest first, before a key (instant, badge, context).
SELECT badge_key, context, awarded_at, source, origin, sequence, catalog_version, trigger_id, trigger_type, award_id
FROM user_badges
WHERE user_id = $1 AND (awarded_at, badge_key, context) < ($2, $3::text, $4::text)
ORDER BY awarded_at DESC, badge_key DESC, context DESC
LIMIT $5;

-- name: panel_user_log
-- What was given to a user and taken back, newest first, before a number in the user's line.
SELECT sequence, badge_key, context, kind, awarded_at, source, origin, trigger_type, trigger_id, catalog_version, reason,
       logged_at
FROM badge_awards_log
WHERE user_id = $1 AND sequence < $2
ORDER BY sequence DESC
LIMIT $3;

-- name: panel_partitions
-- Where the group of workers stands: partitions, how many have an owner, how many workers, when one moved last.
SELECT count(*) AS partitions, count(owner) AS owned, count(DISTINCT owner) AS workers, max(progressed_at) AS moved_at
FROM partitions
WHERE group_id = $1;

-- name: panel_positions
-- Where the group of workers stands in each partition.
SELECT topic, partition, next_offset, progressed_at FROM partitions WHERE group_id = $1 ORDER BY topic, partition;

-- name: panel_builds
-- How far the builds of the newest versions of the catalog are.
SELECT version, users, awards, started_at, moved_at, done_at FROM catalog_builds ORDER BY version DESC LIMIT $1;

-- name: panel_withheld_counts
-- How many awards of each badge are held back, since when; counted up to so many.
SELECT badge_key, count(*) AS awards, min(withheld_at) AS since_at
FROM (
    SELECT badge_key, withheld_at FROM withheld_awards WHERE state = 'held' ORDER BY badge_key, withheld_at LIMIT $1
) AS held
GROUP BY badge_key
ORDER BY awards DESC, badge_key;

-- name: panel_letters
-- Dead letters, newest first, before a number: of a topic, since an instant; at most so many are looked at, in an index.
SELECT d.number, d.topic, d.partition, d."offset", d.incarnation, d.reason, d.detail, d.path, d.user_id, d.length,
       d.recorded_at, d.buried_at, d.state, d.said_type
FROM (
    SELECT number FROM (
        SELECT number, topic, buried_at FROM dead_letters WHERE number < $1 ORDER BY number DESC LIMIT $4
    ) AS newest
    WHERE ($2::text IS NULL OR topic = $2) AND ($3::timestamptz IS NULL OR buried_at >= $3)
    ORDER BY number DESC
    LIMIT $5
) AS found
JOIN dead_letters d ON d.number = found.number
ORDER BY d.number DESC;

-- name: panel_letters_of
-- The same of one reason: looked for in its own order, so that a rare one costs nothing.
SELECT d.number, d.topic, d.partition, d."offset", d.incarnation, d.reason, d.detail, d.path, d.user_id, d.length,
       d.recorded_at, d.buried_at, d.state, d.said_type
FROM (
    SELECT number FROM (
        SELECT number, topic, buried_at FROM dead_letters
        WHERE reason = $6 AND number < $1
        ORDER BY reason DESC, number DESC
        LIMIT $4
    ) AS newest
    WHERE ($2::text IS NULL OR topic = $2) AND ($3::timestamptz IS NULL OR buried_at >= $3)
    ORDER BY number DESC
    LIMIT $5
) AS found
JOIN dead_letters d ON d.number = found.number
ORDER BY d.number DESC;

-- name: panel_letters_of_type
-- The same of records that say they are of a type, in their own order, too.
SELECT d.number, d.topic, d.partition, d."offset", d.incarnation, d.reason, d.detail, d.path, d.user_id, d.length,
       d.recorded_at, d.buried_at, d.state, d.said_type
FROM (
    SELECT number FROM (
        SELECT number, reason, topic, buried_at FROM dead_letters
        WHERE said_type = $7 AND number < $1
        ORDER BY said_type DESC, number DESC
        LIMIT $4
    ) AS newest
    WHERE ($2::text IS NULL OR topic = $2) AND ($3::timestamptz IS NULL OR buried_at >= $3)
      AND ($6::text IS NULL OR reason = $6)
    ORDER BY number DESC
    LIMIT $5
) AS found
JOIN dead_letters d ON d.number = found.number
ORDER BY d.number DESC;

-- name: panel_waiting_letters
-- How many of the newest dead letters of a reason, of a type, of a topic, since an instant were not applied yet, and
-- whether there may be more: so many of them are looked at, in the order that the filter has.
WITH looked AS MATERIALIZED (
    (SELECT number, reason, topic, buried_at FROM dead_letters
     WHERE $1::text IS NULL AND $2::text IS NULL
     ORDER BY number DESC LIMIT $5)
    UNION ALL
    (SELECT number, reason, topic, buried_at FROM dead_letters
     WHERE $2::text IS NULL AND reason >= $1 AND reason <= $1
     ORDER BY reason DESC, number DESC LIMIT $5)
    UNION ALL
    (SELECT number, reason, topic, buried_at FROM dead_letters
     WHERE said_type >= $2 AND said_type <= $2
     ORDER BY said_type DESC, number DESC LIMIT $5)
)
SELECT count(*) FILTER (
           WHERE ($1::text IS NULL OR l.reason = $1) AND ($3::text IS NULL OR l.topic = $3)
             AND ($4::timestamptz IS NULL OR l.buried_at >= $4)
             AND (SELECT d.state FROM dead_letters d WHERE d.number = l.number LIMIT 1) = 'new'
       ) AS letters,
       count(*) >= $5 AND coalesce(min(l.buried_at) >= $4, true) AS more
FROM looked l;

-- name: panel_letter_types
-- How many dead letters say that they are of each of these types, in whatever state; so many of each are counted. A
-- span of one type, since an equal one would let the order of numbers be the way to them.
SELECT t.type, l.letters
FROM unnest($1::text[]) AS t (type)
CROSS JOIN LATERAL (
    SELECT count(*) AS letters
    FROM (
        SELECT number FROM dead_letters WHERE said_type >= t.type AND said_type <= t.type
        ORDER BY said_type, number LIMIT $2
    ) AS first
) AS l
WHERE l.letters > 0;

-- name: panel_sample
-- The events of a type that arrived when the newest one did, as arrivals are counted: one of them is the sample. All
-- are found before one is chosen, so that nothing but the index of arrivals is ever the way to them.
WITH newest AS MATERIALIZED (
    SELECT user_id, source, id, occurred_at, received_at, payload FROM events WHERE type = $1 AND received_at = $2
)
SELECT user_id, source, id, occurred_at, received_at, payload FROM newest
ORDER BY occurred_at DESC, user_id, source, id LIMIT 1;

-- name: panel_letter_counts
-- How many of the newest dead letters there are for each reason; so many are looked at.
SELECT reason, count(*) AS letters, max(buried_at) AS last_at
FROM (SELECT reason, buried_at FROM dead_letters ORDER BY number DESC LIMIT $1) AS newest
GROUP BY reason
ORDER BY letters DESC, reason;

-- name: panel_unpublished
-- How many messages wait to be published, counted up to so many, and how old the oldest of them is.
SELECT count(*) AS waiting,
       coalesce(extract(epoch FROM clock_timestamp() - min(created_at)), 0)::float8 AS oldest_seconds
FROM (SELECT created_at FROM outbox WHERE published_at IS NULL AND parked IS NULL LIMIT $1) AS waiting;

-- name: panel_letter_topics
-- The topics that have been read.
SELECT DISTINCT topic FROM partitions ORDER BY topic;
