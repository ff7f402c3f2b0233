-- What is given and taken besides what criteria earn: awards taken back, withheld, counted by breakers. Described as in
-- queries.sql.

-- name: holdings_of
-- All that is stored of one user's awards: those held (by a person or not), those withheld by their state (`barred`:
-- revoked after an event had earned it and it was held back), and, as `first`, how those that a person once took back
-- were first given.
SELECT badge_key, context, awarded_at, trigger_id, CASE source WHEN 'manual' THEN 'by_hand' ELSE '' END AS kind
FROM user_badges WHERE user_id = $1
UNION ALL
SELECT badge_key, context, awarded_at, trigger_id,
       CASE WHEN state = 'revoked' AND trigger_type <> 'grant.revoked' THEN 'barred' ELSE state END
FROM withheld_awards WHERE user_id = $1
UNION ALL
SELECT badge_key, context, awarded_at, trigger_id, 'first'
FROM (
    SELECT DISTINCT badge_key, context FROM badge_awards_log
    WHERE user_id = $1 AND kind = 'revoked' AND source = 'manual'
) AS taken
CROSS JOIN LATERAL (
    SELECT awarded_at, trigger_id FROM badge_awards_log l
    WHERE l.user_id = $1 AND l.badge_key = taken.badge_key AND l.context = taken.context AND l.kind = 'awarded'
    ORDER BY sequence LIMIT 1
) AS given;

-- name: confirm
-- Of some awards those that are held: a person gave them, from now on.
UPDATE user_badges b SET source = 'manual'
FROM unnest($1::text[], $2::text[], $3::text[]) AS w (user_id, badge_key, context)
WHERE b.user_id = w.user_id AND b.context = w.context AND b.badge_key = w.badge_key
RETURNING b.user_id, b.badge_key, b.context;

-- name: take_back
-- Remove awards from what is held; what was there.
DELETE FROM user_badges b
USING unnest($1::text[], $2::text[], $3::text[]) AS w (user_id, badge_key, context)
WHERE b.user_id = w.user_id AND b.context = w.context AND b.badge_key = w.badge_key
RETURNING b.user_id, b.sequence, b.badge_key, b.context, b.awarded_at AS awarded_us, b.source, b.origin,
          b.award_id::text, b.catalog_version, b.trigger_id, b.trigger_type, b.metadata::text AS metadata_json;

-- name: withhold
-- Withhold awards; of those that are withheld already, state and reason change.
INSERT INTO withheld_awards AS h (user_id, badge_key, context, state, awarded_at, source, origin, catalog_version,
                                  trigger_id, trigger_type, metadata, reason)
SELECT user_id, badge_key, context, state, awarded_at, source, origin, catalog_version, trigger_id, trigger_type,
       metadata::jsonb, reason
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::timestamptz[], $6::text[], $7::text[], $8::integer[],
            $9::text[], $10::text[], $11::text[], $12::text[])
    AS w (user_id, badge_key, context, state, awarded_at, source, origin, catalog_version, trigger_id, trigger_type,
          metadata, reason)
ORDER BY user_id COLLATE "C", context COLLATE "C", badge_key COLLATE "C"
ON CONFLICT (user_id, context, badge_key) DO UPDATE
SET state = excluded.state, reason = excluded.reason, withheld_at = now();

-- name: lift
-- Withhold awards no longer, of one state or of any; what was there.
DELETE FROM withheld_awards h
USING unnest($1::text[], $2::text[], $3::text[]) AS w (user_id, badge_key, context)
WHERE h.user_id = w.user_id AND h.context = w.context AND h.badge_key = w.badge_key
  AND ($4::text IS NULL OR h.state = $4)
RETURNING h.user_id, h.badge_key, h.context, h.state, h.awarded_at, h.source, h.origin, h.catalog_version,
          h.trigger_id, h.trigger_type, h.metadata::text, coalesce(h.reason, '') AS reason;

-- ================================================================ breakers

-- name: tally
-- Count awards by badge and minute, for one partition.
INSERT INTO award_tallies AS t (badge_key, minute, topic, partition, awards)
SELECT badge_key, minute, $4, $5, awards
FROM unnest($1::text[], $2::timestamptz[], $3::bigint[]) AS c (badge_key, minute, awards)
ON CONFLICT (minute, badge_key, topic, partition) DO UPDATE SET awards = t.awards + excluded.awards;

-- name: tallied
-- How many awards of each badge were counted in the minutes after one and up to another, for each such span.
SELECT s.after, s.until, t.badge_key, t.awards
FROM unnest($1::timestamptz[], $2::timestamptz[]) AS s (after, until)
CROSS JOIN LATERAL (
    SELECT badge_key, sum(awards)::bigint AS awards FROM award_tallies
    WHERE minute > s.after AND minute <= s.until GROUP BY badge_key
) AS t;

-- name: prune_tallies
-- Remove what this partition counted before a minute.
DELETE FROM award_tallies WHERE minute < $1 AND topic = $2 AND partition = $3;

-- name: usual_awards
-- How many awards a day are usual for each badge that has been given for a week or longer.
SELECT badge_key, usual FROM badge_baselines WHERE days >= 7;

-- ================================================================ quarantine

-- name: quarantine_counts
-- How many awards of each badge are held back, and since when.
SELECT badge_key, count(*) AS awards, min(withheld_at) AS first_us, max(withheld_at) AS last_us
FROM withheld_awards WHERE state = 'held' GROUP BY badge_key ORDER BY awards DESC, badge_key;

-- name: quarantined
-- Awards held back after one (user, badge, context), of one badge, user or context where one is given, or of those
-- (user, context) that are.
SELECT user_id, badge_key, context, state, awarded_at, source, origin, catalog_version, trigger_id, trigger_type,
       metadata::text, coalesce(reason, '') AS reason, withheld_at
FROM withheld_awards
WHERE state = 'held' AND ($1::text IS NULL OR badge_key = $1) AND ($2::text[] IS NULL OR user_id = ANY ($2))
  AND ($3::text IS NULL OR context = $3) AND (badge_key, user_id, context) > ($4::text, $5::text, $6::text)
  AND ($8::text[] IS NULL OR (user_id, context) IN (SELECT * FROM unnest($8::text[], $9::text[])))
ORDER BY badge_key, user_id, context
LIMIT $7;

-- name: quarantine_size
-- How many awards are held back, at most so many.
SELECT count(*) AS awards FROM (SELECT 1 FROM withheld_awards WHERE state = 'held' LIMIT $1) AS h;

-- name: standing
-- Where one award of a user stands: held (given by a person or not), or withheld with its state; nothing where neither.
SELECT 'given' AS state, source = 'manual' AS by_hand FROM user_badges
WHERE user_id = $1 AND badge_key = $2 AND context = $3
UNION ALL
SELECT state, false FROM withheld_awards WHERE user_id = $1 AND badge_key = $2 AND context = $3;
