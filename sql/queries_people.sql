-- ================================================================ people: what is held about one, and its end

-- name: allow_removal
-- Logs that are written once may be removed from, to the end of the transaction.
SELECT set_config('badges.removal', 'on', true);

-- name: hold_person
-- Make a user's row where there is none, so that there is something to lock: a batch that is about to make it waits.
INSERT INTO users (user_id) VALUES ($1) ON CONFLICT DO NOTHING;

-- name: lock_person
-- Lock a user; waits for the batch that has them. The clock is read once they are ours.
SELECT clock_timestamp() AS now FROM users WHERE user_id = $1 FOR UPDATE;

-- name: newest_of_person
-- The instant of a user's newest logged event.
SELECT max(occurred_at) AS newest FROM events WHERE user_id = $1;

-- name: erase_events
-- Remove a user's events.
DELETE FROM events WHERE user_id = $1;

-- name: erase_awards
-- Remove a user's awards.
DELETE FROM user_badges WHERE user_id = $1;

-- name: erase_awards_log
-- Remove what was logged of a user's awards.
DELETE FROM badge_awards_log WHERE user_id = $1;

-- name: erase_withheld
-- Remove a user's withheld awards.
DELETE FROM withheld_awards WHERE user_id = $1;

-- name: erase_scopes
-- Remove a user's memory of payload values.
DELETE FROM user_scopes WHERE user_id = $1;

-- name: erase_queued
-- Strike a user off the queue.
DELETE FROM recompute_queue WHERE user_id = $1;

-- name: erase_activity
-- Remove when a user was last active.
DELETE FROM user_activity WHERE user_id = $1;

-- name: erase_tenures
-- Remove when a user joined.
DELETE FROM user_tenures WHERE user_id = $1;

-- name: erase_user_jobs
-- Let jobs that were asked for one user name nobody; those that are not done end.
UPDATE user_jobs
SET parameters = jsonb_set(parameters, '{user}', '""'), note = '', after = '',
    state = CASE WHEN state IN ('waiting', 'running') THEN 'cancelled' ELSE state END,
    done_at = coalesce(done_at, clock_timestamp())
WHERE parameters ->> 'user' = $1;

-- name: erase_audit
-- Let changes that were made to one user name the hash of the id; what they changed goes.
UPDATE audit_log SET subject = $2, before = NULL, after = NULL, note = ''
WHERE subject = 'user ' || $1::text OR starts_with(subject, 'user ' || $1::text || ' ');

-- name: erase_from_audit
-- Let changes to something else that were made for one user, or for some, name that user no more.
UPDATE audit_log
SET after = CASE WHEN after ->> 'user' = $1 THEN jsonb_set(after, '{user}', '""')
                 ELSE jsonb_set(after, '{users}', (after -> 'users') - $1::text) END,
    note = ''
WHERE after ->> 'user' = $1 OR after -> 'users' ? $1::text;

-- name: erase_places
-- Let what goes on after this user go on after the one before: of jobs over users, builds, readers and scheduled runs.
WITH before AS (
    SELECT coalesce((SELECT max(user_id) FROM users WHERE user_id < $1), '') AS user_id
), jobs AS (
    UPDATE user_jobs j SET after = b.user_id FROM before b WHERE j.after = $1
), builds AS (
    UPDATE catalog_builds c SET after = b.user_id FROM before b WHERE c.after = $1
), readers AS (
    UPDATE log_readers r SET after = b.user_id FROM before b WHERE r.after = $1
)
UPDATE job_runs r SET progress = b.user_id FROM before b WHERE r.progress = $1;

-- name: erase_person
-- Remove a user's row, with the memory in it.
DELETE FROM users WHERE user_id = $1;

-- name: letters_that_may_name
-- Dead letters that hold one of some byte strings, after a number.
SELECT number, key, raw, user_id FROM dead_letters
WHERE number > $1 AND (user_id = $2 OR key = $3 OR position($3 IN raw) > 0 OR position($4::bytea IN raw) > 0)
ORDER BY number
LIMIT $5;

-- name: erase_letters
-- Remove dead letters by their numbers.
DELETE FROM dead_letters WHERE number = ANY ($1::bigint[]);

-- name: messages_that_may_name
-- Rows of the outbox that hold one of two byte strings, after an id, locked.
SELECT id, messages FROM outbox
WHERE id > $1 AND (position($2::bytea IN messages) > 0 OR position($3::bytea IN messages) > 0)
ORDER BY id
LIMIT $4
FOR UPDATE;

-- name: rewrite_message
-- Leave fewer messages in a row of the outbox.
UPDATE outbox SET messages = $2 WHERE id = $1;

-- name: erase_messages
-- Remove rows of the outbox.
DELETE FROM outbox WHERE id = ANY ($1::bigint[]);

-- name: erased_before
-- How often a user was erased.
SELECT times FROM erased_users WHERE user_hash = $1;

-- name: note_erasure
-- Write down that a user was erased; the instant never goes back.
INSERT INTO erased_users AS e (user_hash, erased_at, erased_by, note, rows) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (user_hash) DO UPDATE
SET erased_at = greatest(e.erased_at, excluded.erased_at), erased_by = excluded.erased_by, note = excluded.note,
    rows = excluded.rows, times = e.times + 1;

-- name: export_events
-- The next events of a user in order, after a key (instant, source, id), each as JSON.
SELECT source, id, occurred_at, (to_jsonb(e) - 'user_id')::text AS row
FROM events e
WHERE user_id = $1 AND occurred_at >= $2 AND (occurred_at, source, id) > ($2, $3::text, $4::text)
ORDER BY occurred_at, source, id
LIMIT $5;

-- name: export_awards
-- A user's awards, each as JSON.
SELECT (to_jsonb(b) - 'user_id')::text AS row FROM user_badges b WHERE user_id = $1 ORDER BY sequence;

-- name: export_awards_log
-- What was logged of a user's awards, each as JSON.
SELECT (to_jsonb(l) - 'user_id')::text AS row FROM badge_awards_log l WHERE user_id = $1 ORDER BY sequence;

-- name: export_withheld
-- A user's withheld awards, each as JSON.
SELECT (to_jsonb(w) - 'user_id')::text AS row FROM withheld_awards w WHERE user_id = $1 ORDER BY badge_key, context;

-- name: export_queued
-- A user's place in the queue, as JSON.
SELECT (to_jsonb(q) - 'user_id')::text AS row FROM recompute_queue q WHERE user_id = $1;

-- name: export_activity
-- When a user was last active, as JSON.
SELECT (to_jsonb(a) - 'user_id')::text AS row FROM user_activity a WHERE user_id = $1;

-- name: export_tenures
-- When a user joined, as JSON.
SELECT (to_jsonb(t) - 'user_id')::text AS row FROM user_tenures t WHERE user_id = $1 ORDER BY type;

-- name: export_user_jobs
-- Jobs that were asked for one user, each as JSON.
SELECT to_jsonb(j)::text AS row FROM user_jobs j WHERE parameters ->> 'user' = $1 ORDER BY id;

-- name: export_audit
-- Changes that were made to one user, each as JSON.
SELECT to_jsonb(a)::text AS row FROM audit_log a
WHERE subject = 'user ' || $1::text OR starts_with(subject, 'user ' || $1::text || ' ')
ORDER BY id;

-- name: export_memory
-- A user's memory: of the user as a whole (scope empty) and of payload values.
SELECT '' AS scope, state FROM users WHERE user_id = $1 AND state IS NOT NULL
UNION ALL
SELECT scope, state FROM user_scopes WHERE user_id = $1
ORDER BY scope;

-- name: export_person
-- A user's row without the memory, as JSON.
SELECT (to_jsonb(u) - 'user_id' - 'state' - 'home')::text AS row FROM users u WHERE user_id = $1;

-- name: export_letter
-- One dead letter without its bytes, as JSON.
SELECT (to_jsonb(d) - 'raw' - 'key')::text AS row FROM dead_letters d WHERE number = $1;

-- name: erase_sealed
-- Remove a user's sealed memory.
DELETE FROM sealed_states WHERE user_id = $1;

-- name: export_sealed
-- A user's sealed memory.
SELECT scope, state FROM sealed_states WHERE user_id = $1 ORDER BY scope;
