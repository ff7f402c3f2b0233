-- Statements of the jobs over users, and of what their slices read and repair. Described as in queries.sql.

-- ================================================================ jobs

-- name: create_user_job
-- Write down a job over users; with a driver it runs from now on, without one it waits for a worker.
INSERT INTO user_jobs (kind, parameters, users_total, requested_by, note, after, driver, leased_until, state, started_at)
VALUES ($1, $2::jsonb, $3, $4, $5, $6, $7, CASE WHEN $7::text IS NOT NULL THEN clock_timestamp() + interval '30 seconds' END,
        CASE WHEN $7::text IS NULL THEN 'waiting' ELSE 'running' END,
        CASE WHEN $7::text IS NOT NULL THEN clock_timestamp() END)
RETURNING id;

-- name: user_jobs
-- The newest jobs before one, of a kind or a state where one is given.
SELECT id, kind, parameters, state, after, users_done, users_total, events, awards, changes, requested_by,
       requested_at AS requested_us, started_at AS started_us, moved_at AS moved_us, done_at AS done_us, note
FROM user_jobs
WHERE ($1::bigint IS NULL OR id < $1) AND ($2::text IS NULL OR kind = $2) AND ($3::text IS NULL OR state = $3)
ORDER BY id DESC
LIMIT $4;

-- name: user_job
-- One job.
SELECT id, kind, parameters, state, after, users_done, users_total, events, awards, changes, requested_by,
       requested_at AS requested_us, started_at AS started_us, moved_at AS moved_us, done_at AS done_us, note
FROM user_jobs WHERE id = $1;

-- name: next_user_job
-- The oldest job that nobody drives: one that waits, or one whose driver was not heard of in time.
SELECT id FROM user_jobs
WHERE state IN ('waiting', 'running')
  AND (leased_until IS NULL OR leased_until < clock_timestamp() OR driver = $1)
ORDER BY id
LIMIT 1;

-- name: unfinished_user_job
-- The newest job of this kind and these parameters that is not finished, and whether somebody drives it now.
SELECT id, coalesce(leased_until > clock_timestamp(), false) AS driven FROM user_jobs
WHERE state IN ('waiting', 'running') AND kind = $1 AND parameters = $2::jsonb
ORDER BY id DESC
LIMIT 1;

-- name: take_user_job
-- A job for one slice, locked to the end of the transaction and this driver's for the next while; nothing where it is
-- finished, or somebody else's.
WITH free AS (
    SELECT id FROM user_jobs
    WHERE id = $1 AND state IN ('waiting', 'running')
      AND (leased_until IS NULL OR leased_until < clock_timestamp() OR driver = $2)
    FOR UPDATE SKIP LOCKED
)
UPDATE user_jobs j
SET state = 'running', driver = $2, leased_until = clock_timestamp() + make_interval(secs => $3),
    started_at = coalesce(j.started_at, clock_timestamp())
FROM free WHERE j.id = free.id
RETURNING j.id, kind, parameters, j.state, after, users_done, users_total, events, awards, changes, requested_by,
          requested_at AS requested_us, j.started_at AS started_us, moved_at AS moved_us, done_at AS done_us, note;

-- name: keep_user_job
-- Stay the driver of a job through a pause; whether it still is one to drive.
UPDATE user_jobs SET leased_until = clock_timestamp() + make_interval(secs => $3)
WHERE id = $1 AND driver = $2 AND state = 'running';

-- name: move_user_job
-- Users up to one are done; with what they were found to need. Without one there are no more, and the job is done.
UPDATE user_jobs
SET after = coalesce($2, after), users_done = users_done + $3, events = events + $4, awards = awards + $5,
    changes = $6::jsonb, moved_at = clock_timestamp(),
    users_total = CASE WHEN $7 THEN users_done + $3 ELSE greatest(users_total, users_done + $3) END,
    state = CASE WHEN $7 THEN 'done' ELSE state END,
    done_at = CASE WHEN $7 THEN clock_timestamp() END,
    driver = CASE WHEN NOT $7 THEN driver END,
    leased_until = CASE WHEN NOT $7 THEN leased_until END
WHERE id = $1;

-- name: end_user_job
-- End a job that is not finished: cancelled or failed; what is done stays done.
UPDATE user_jobs
SET state = $2, done_at = clock_timestamp(), driver = NULL, leased_until = NULL,
    note = CASE WHEN $3 = '' THEN note ELSE $3 END
WHERE id = $1 AND state IN ('waiting', 'running');

-- name: resume_user_job
-- Let a cancelled or failed job go on where it stopped.
UPDATE user_jobs SET state = 'waiting', done_at = NULL WHERE id = $1 AND state IN ('cancelled', 'failed');

-- name: last_sweep
-- How far the last sweep came that was done; the beginning where it came to the end, or there was none.
SELECT after FROM user_jobs WHERE kind = 'sweep' AND state = 'done' ORDER BY id DESC LIMIT 1;

-- name: live_figures
-- Seconds since a batch was last applied, age of the oldest message that waits, and of the oldest transaction at work
-- of another connection of this program.
SELECT (SELECT extract(epoch FROM clock_timestamp() - max(progressed_at)) FROM partitions)::float8 AS idle,
       (SELECT coalesce(extract(epoch FROM clock_timestamp() - min(created_at)), 0) FROM outbox
        WHERE published_at IS NULL AND parked IS NULL)::float8 AS outbox,
       (SELECT coalesce(max(extract(epoch FROM clock_timestamp() - xact_start)), 0) FROM pg_stat_activity
        WHERE datname = current_database() AND state <> 'idle' AND pid <> pg_backend_pid()
          AND application_name LIKE 'badges %')::float8 AS running;

-- name: live_positions
-- The partitions of a group, with the next offset to be applied where a batch moved it within so many seconds.
SELECT topic, partition,
       CASE WHEN progressed_at > clock_timestamp() - make_interval(secs => $2) THEN next_offset END AS next_offset
FROM partitions WHERE group_id = $1;

-- ================================================================ who

-- name: users_page
-- The next users after one: those with a row, and those whom only the log knows.
WITH RECURSIVE logged (user_id) AS (
    SELECT (SELECT e.user_id FROM events e WHERE e.user_id > $1 ORDER BY e.user_id LIMIT 1)
    UNION ALL
    SELECT (SELECT e.user_id FROM events e WHERE e.user_id > l.user_id ORDER BY e.user_id LIMIT 1)
    FROM logged l WHERE l.user_id IS NOT NULL
)
SELECT user_id FROM (
    (SELECT user_id FROM users WHERE user_id > $1 ORDER BY user_id LIMIT $2)
    UNION
    (SELECT user_id FROM logged WHERE user_id IS NOT NULL LIMIT $2)
) AS found
ORDER BY user_id
LIMIT $2;

-- name: users_built
-- The next users with a row after one, and the version each is built for.
SELECT user_id, built_version FROM users WHERE user_id > $1 ORDER BY user_id LIMIT $2;

-- name: users_with_events
-- Of some users those who have an event of one of these types, or were ever given one of these badges.
SELECT w.user_id FROM unnest($1::text[]) AS w (user_id)
WHERE EXISTS (SELECT 1 FROM events e WHERE e.user_id = w.user_id AND e.type = ANY ($2::text[]))
   OR EXISTS (SELECT 1 FROM badge_awards_log l WHERE l.user_id = w.user_id AND l.badge_key = ANY ($3::text[]));

-- name: count_logged
-- How many events each of some users has, of some types where these are given.
SELECT user_id, count(*) AS events FROM events
WHERE user_id = ANY ($1::text[]) AND ($2::text[] IS NULL OR type = ANY ($2))
GROUP BY user_id;

-- name: known_among
-- Of some users those who have a row or an event.
SELECT w.user_id FROM unnest($1::text[]) AS w (user_id)
WHERE EXISTS (SELECT 1 FROM users u WHERE u.user_id = w.user_id)
   OR EXISTS (SELECT 1 FROM events e WHERE e.user_id = w.user_id);

-- ================================================================ what is stored of them

-- name: look_at_users
-- The rows of users, not locked.
SELECT user_id, award_sequence, built_version, newest_at, newest_source, newest_id, state
FROM users WHERE user_id = ANY ($1::text[]);

-- name: scopes_of
-- All memory of users that is kept for values of payload fields.
SELECT user_id, scope, state FROM user_scopes WHERE user_id = ANY ($1::text[]);

-- name: standing_of
-- The awards of users: held; withheld, by their state (`barred`: held back when it was revoked); in the log as given and not taken back, but not held, or as taken
-- back by a person, with nothing that says so; and, as `first`, how those that a person took back were first given.
SELECT user_id, badge_key, context, awarded_at, trigger_id, source, sequence, 'held' AS what
FROM user_badges WHERE user_id = ANY ($1::text[])
UNION ALL
SELECT user_id, badge_key, context, awarded_at, trigger_id, source, 0, 'withheld ' || CASE WHEN state = 'revoked' AND trigger_type <> 'grant.revoked' THEN 'barred' ELSE state END
FROM withheld_awards WHERE user_id = ANY ($1::text[])
UNION ALL
SELECT l.user_id, l.badge_key, l.context, l.awarded_at, l.trigger_id, l.source, l.sequence,
       CASE l.kind WHEN 'awarded' THEN 'lost' ELSE 'withheld revoked' END
FROM (
    SELECT DISTINCT ON (user_id, badge_key, context)
           user_id, badge_key, context, awarded_at, trigger_id, source, sequence, kind
    FROM badge_awards_log WHERE user_id = ANY ($1::text[])
    ORDER BY user_id, badge_key, context, sequence DESC
) AS l
WHERE (l.kind = 'awarded' OR l.source = 'manual') AND NOT EXISTS (
    SELECT 1 FROM user_badges b
    WHERE b.user_id = l.user_id AND b.badge_key = l.badge_key AND b.context = l.context
) AND NOT EXISTS (
    SELECT 1 FROM withheld_awards h
    WHERE h.user_id = l.user_id AND h.badge_key = l.badge_key AND h.context = l.context
)
UNION ALL
SELECT taken.user_id, taken.badge_key, taken.context, given.awarded_at, given.trigger_id, given.source, 0, 'first'
FROM (
    SELECT DISTINCT user_id, badge_key, context FROM badge_awards_log
    WHERE user_id = ANY ($1::text[]) AND kind = 'revoked' AND source = 'manual'
) AS taken
CROSS JOIN LATERAL (
    SELECT awarded_at, trigger_id, source FROM badge_awards_log l
    WHERE l.user_id = taken.user_id AND l.badge_key = taken.badge_key AND l.context = taken.context
      AND l.kind = 'awarded'
    ORDER BY sequence LIMIT 1
) AS given;

-- name: retention_floors
-- Types of which old events were removed, and up to when.
SELECT type, floor FROM retention_floors;

-- ================================================================ what is repaired

-- name: restore_awards
-- Put awards back as the log has them, by user and sequence; nothing is published.
INSERT INTO user_badges (user_id, badge_key, context, awarded_at, source, origin, sequence, award_id, catalog_version,
                         trigger_id, trigger_type, metadata)
SELECT l.user_id, l.badge_key, l.context, l.awarded_at, l.source, l.origin, l.sequence, l.award_id, l.catalog_version,
       l.trigger_id, l.trigger_type, l.metadata
FROM unnest($1::text[], $2::bigint[]) AS w (user_id, sequence)
JOIN badge_awards_log l ON l.user_id = w.user_id AND l.sequence = w.sequence;

-- name: allow_rewriting
-- Let this transaction change what the log says beside the events themselves.
SELECT set_config('badges.removal', 'on', true);

-- name: store_verdicts
-- What conditions say of events that are logged, beside what others said.
UPDATE events e
SET verdicts = coalesce(e.verdicts, '{}') || w.verdicts::jsonb
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) AS w (user_id, source, id, verdicts)
WHERE e.user_id = w.user_id AND e.source = w.source AND e.id = w.id;
