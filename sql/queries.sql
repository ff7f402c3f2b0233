-- Every statement of the store, named (`-- name:`) and described. Table names are unqualified: the connection's
-- search_path is the schema. Instants are timestamptz, which the connection reads and writes as microseconds.

-- ================================================================ partitions

-- name: claim
-- Take a partition with a fresh token; the missing row is made at the start offset. Waits for the batch in doubt that
-- holds the row. No row comes back where a newer generation of the group holds the partition; the claim of an older
-- generation counts again once that one is 60 seconds old, for a group whose generations began anew.
INSERT INTO partitions AS p
    (group_id, topic, partition, next_offset, epoch, generation, owner, owner_pid, claimed_at)
VALUES ($1, $2, $3, $4, 1, $5, $6, pg_backend_pid(), clock_timestamp())
ON CONFLICT (group_id, topic, partition) DO UPDATE
SET epoch = p.epoch + 1,
    token = gen_random_uuid(),
    generation = excluded.generation,
    owner = excluded.owner,
    owner_pid = pg_backend_pid(),
    attempts = p.attempts + (p.owner IS NOT NULL)::integer,
    claimed_at = clock_timestamp()
WHERE excluded.generation >= p.generation
   OR p.claimed_at IS NULL
   OR p.claimed_at < clock_timestamp() - interval '60 seconds'
RETURNING token, epoch, incarnation, next_offset, last_offset, last_sha, attempts;

-- name: release
-- Give a partition back cleanly, if it is still ours.
UPDATE partitions SET owner = NULL, owner_pid = NULL, attempts = 0
WHERE group_id = $1 AND topic = $2 AND partition = $3 AND token = $4;

-- name: fence
-- Move a partition, if token and offset are as the batch believes (one row, or the batch is fenced); with it the version
-- of the catalog that rules, whose lock is held by now, whether there is anything that must not come back, and whether
-- any award was ever taken back.
WITH moved AS (
    UPDATE partitions
    SET next_offset = $6, last_offset = $7, last_sha = $8, progressed_at = clock_timestamp(), attempts = 0
    WHERE group_id = $1 AND topic = $2 AND partition = $3 AND token = $4 AND next_offset = $5
    RETURNING 1
)
SELECT (SELECT count(*) FROM moved) AS moved,
       (SELECT version FROM catalog_head WHERE single) AS version,
       EXISTS (SELECT 1 FROM erased_users) OR EXISTS (SELECT 1 FROM retention_floors) AS screening,
       EXISTS (SELECT 1 FROM badge_awards_log WHERE kind = 'revoked') AS revoking;

-- name: fence_together
-- `fence` for several partitions at once, locked in order; `moved` says how many were as the batch believes.
WITH asked AS (
    SELECT * FROM unnest($2::text[], $3::integer[], $4::uuid[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bytea[])
        AS a (topic, partition, token, from_offset, to_offset, last_offset, last_sha)
    ORDER BY topic COLLATE "C", partition
), held AS MATERIALIZED (
    SELECT a.* FROM asked a
    CROSS JOIN LATERAL (
        SELECT 1 FROM partitions p
        WHERE p.group_id = $1 AND p.topic = a.topic AND p.partition = a.partition AND p.token = a.token
          AND p.next_offset = a.from_offset
        FOR NO KEY UPDATE
    ) AS p
), moved AS (
    UPDATE partitions p
    SET next_offset = h.to_offset, last_offset = h.last_offset, last_sha = h.last_sha,
        progressed_at = clock_timestamp(), attempts = 0
    FROM held h
    WHERE p.group_id = $1 AND p.topic = h.topic AND p.partition = h.partition AND p.token = h.token
    RETURNING 1
)
SELECT (SELECT count(*) FROM moved) AS moved,
       (SELECT version FROM catalog_head WHERE single) AS version,
       EXISTS (SELECT 1 FROM erased_users) OR EXISTS (SELECT 1 FROM retention_floors) AS screening,
       EXISTS (SELECT 1 FROM badge_awards_log WHERE kind = 'revoked') AS revoking;

-- name: record_gap
-- Write down a hole in the offsets that was accepted.
INSERT INTO stream_gaps (group_id, topic, partition, from_offset, to_offset, cause)
VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT DO NOTHING;

-- ================================================================ events

-- name: remember_staged
-- Append events, in the order given, leaving out those whose identity is logged. The new ones come back as places in the
-- arrays (from 1).
WITH batch AS (
    SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::timestamptz[], $6::text[])
        WITH ORDINALITY AS b (user_id, source, id, type, occurred_at, payload, place)
), fresh AS (
    INSERT INTO events (user_id, source, id, type, occurred_at, payload)
    SELECT user_id, source, id, type, occurred_at, payload::jsonb FROM batch ORDER BY place
    ON CONFLICT DO NOTHING
    RETURNING user_id, source, id
)
SELECT b.place FROM batch b JOIN fresh f ON f.user_id = b.user_id AND f.source = b.source AND f.id = b.id
ORDER BY b.place;

-- name: remember_judged
-- The same, with what conditions said of each event.
WITH batch AS (
    SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::timestamptz[], $6::text[], $7::text[])
        WITH ORDINALITY AS b (user_id, source, id, type, occurred_at, payload, verdicts, place)
), fresh AS (
    INSERT INTO events (user_id, source, id, type, occurred_at, payload, verdicts)
    SELECT user_id, source, id, type, occurred_at, payload::jsonb, verdicts::jsonb FROM batch ORDER BY place
    ON CONFLICT DO NOTHING
    RETURNING user_id, source, id
)
SELECT b.place FROM batch b JOIN fresh f ON f.user_id = b.user_id AND f.source = b.source AND f.id = b.id
ORDER BY b.place;

-- name: conflicting
-- Of events whose identity is logged, the places (from 1) of those that say something else; cron.* never do.
SELECT b.place
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::timestamptz[], $6::text[])
    WITH ORDINALITY AS b (user_id, source, id, type, occurred_at, payload, place)
JOIN events e ON e.user_id = b.user_id AND e.source = b.source AND e.id = b.id
WHERE b.type NOT LIKE 'cron.%'
  AND (e.type <> b.type OR e.occurred_at <> b.occurred_at OR e.payload <> b.payload::jsonb)
ORDER BY b.place;

-- name: log_page
-- The next events of a user in order, after a key (instant, source, id).
SELECT source, id, type, occurred_at, payload, verdicts
FROM events
WHERE user_id = $1 AND occurred_at >= $2 AND (occurred_at, source, id) > ($2, $3::text, $4::text)
ORDER BY occurred_at, source, id
LIMIT $5;

-- ================================================================ users

-- name: lock_users
-- Lock users in the order given, which is sorted, one by one by the key, whatever the statistics say; they come as one
-- text joined by a separator, which is read faster than an array is written. A mark says of each which of the homes is
-- to have the user, negative where the user is not known; without marks it is the first, and all are known. Rows come
-- back of who has none, `missing`, of who is not known, and of those known that others changed meanwhile.
SELECT w.user_id, u.user_id IS NULL AS missing, u.award_sequence, u.built_version, u.newest_at, u.newest_source,
       u.newest_id, u.state
FROM ROWS FROM (unnest(string_to_array($1::text, $2::text)), unnest($3::smallint[])) AS w (user_id, mark)
LEFT JOIN LATERAL (SELECT * FROM users WHERE users.user_id = w.user_id COLLATE "C" FOR UPDATE) AS u ON true
WHERE coalesce(w.mark, 1) < 0 OR u.home IS DISTINCT FROM ($4::uuid[])[coalesce(w.mark, 1)];

-- name: make_users
-- Make the rows of users who have none, in sorted order; `made` are those nobody else made meanwhile, `erased` says,
-- where there are some, whether anybody is erased by now.
WITH made AS (
    INSERT INTO users (user_id, home, built_version)
    SELECT user_id, home, $3::integer
    FROM unnest($1::text[], $2::uuid[]) AS w (user_id, home)
    ORDER BY user_id COLLATE "C"
    ON CONFLICT DO NOTHING
    RETURNING user_id
)
SELECT coalesce(array_agg(user_id), '{}') AS made, CASE WHEN count(*) > 0 THEN anyone_erased() ELSE false END AS erased
FROM made;

-- name: log_tails
-- The logged events of users after an instant, source and id each. The inner order has the index by time used, whatever
-- the statistics say: by the key, all of a user's events would be read.
SELECT w.user_id, e.source, e.id, e.type, e.occurred_at, e.payload, e.verdicts
FROM unnest($1::text[], $2::timestamptz[], $3::text[], $4::text[]) AS w (user_id, newest_at, source, id)
CROSS JOIN LATERAL (
    SELECT source, id, type, occurred_at, payload, verdicts FROM events
    WHERE user_id = w.user_id AND occurred_at >= w.newest_at
    ORDER BY occurred_at
) AS e
WHERE (e.occurred_at, e.source, e.id) > (w.newest_at, w.source, w.id)
ORDER BY w.user_id, e.occurred_at, e.source, e.id;

-- name: last_sequences
-- The number of the last award of each user that has any.
SELECT w.user_id, l.sequence
FROM unnest($1::text[]) AS w (user_id)
CROSS JOIN LATERAL (
    SELECT sequence FROM badge_awards_log WHERE user_id = w.user_id ORDER BY sequence DESC LIMIT 1
) AS l;

-- name: load_scopes
-- The memory of (user, scope) pairs.
SELECT s.user_id, s.scope, s.state
FROM unnest($1::text[], $2::text[]) AS w (user_id, scope)
JOIN user_scopes s ON s.user_id = w.user_id AND s.scope = w.scope;

-- name: load_held
-- The awards of (user, context) pairs, with whether a person gave them; without an instant what is withheld.
SELECT b.user_id, b.badge_key, b.context, b.awarded_at, b.source = 'manual' AS by_hand
FROM unnest($1::text[], $2::text[]) AS w (user_id, context)
JOIN user_badges b ON b.user_id = w.user_id AND b.context = w.context
UNION ALL
SELECT h.user_id, h.badge_key, h.context, NULL, false
FROM unnest($1::text[], $2::text[]) AS w (user_id, context)
JOIN withheld_awards h ON h.user_id = w.user_id AND h.context = w.context
WHERE EXISTS (SELECT 1 FROM withheld_awards);

-- name: save_users
-- Write newest event, award sequence and, where it is not null, memory of locked users; who has them in memory.
UPDATE users u
SET revision = u.revision + 1,
    home = s.home,
    award_sequence = s.award_sequence,
    built_version = coalesce(s.built_version, u.built_version),
    newest_at = s.newest_at,
    newest_source = s.newest_source,
    newest_id = s.newest_id,
    state = coalesce(s.state, u.state)
FROM unnest(
    $1::text[], $2::bigint[], $3::integer[], $4::timestamptz[], $5::text[], $6::text[], $7::bytea[], $8::uuid[]
) AS s (user_id, award_sequence, built_version, newest_at, newest_source, newest_id, state, home)
WHERE u.user_id = s.user_id;

-- name: save_scopes
-- Write the memory of (user, scope) pairs.
INSERT INTO user_scopes (user_id, scope, state)
SELECT user_id, scope, state FROM unnest($1::text[], $2::text[], $3::bytea[]) AS s (user_id, scope, state)
ORDER BY user_id COLLATE "C", scope COLLATE "C"
ON CONFLICT (user_id, scope) DO UPDATE SET state = excluded.state;

-- ================================================================ awards

-- name: grant_counts
-- How often each award was granted and taken back, in the order asked.
SELECT count(l.user_id)::integer AS granted
FROM unnest($1::text[], $2::text[], $3::text[]) WITH ORDINALITY AS w (user_id, badge_key, context, place)
LEFT JOIN badge_awards_log l
    ON l.user_id = w.user_id AND l.badge_key = w.badge_key AND l.context = w.context AND l.kind = 'revoked'
GROUP BY w.place
ORDER BY w.place;

-- name: grant_few
-- Store a few awards, their log entries and, in shards, the messages that say so: one round trip in place of three.
-- Each row says whether any award was ever taken back: the users are locked by now, so this is the last word on them.
WITH given AS (
    SELECT * FROM unnest(
        $1::text[], $2::bigint[], $3::text[], $4::text[], $5::timestamptz[], $6::text[], $7::text[], $8::text[],
        $9::integer[], $10::text[], $11::text[], $12::text[]
    ) AS g (user_id, sequence, badge_key, context, awarded_at, source, origin, award_id, catalog_version, trigger_id,
            trigger_type, metadata)
), held AS (
    INSERT INTO user_badges (user_id, sequence, badge_key, context, awarded_at, source, origin, award_id,
                             catalog_version, trigger_id, trigger_type, metadata)
    SELECT user_id, sequence, badge_key, context, awarded_at, source, origin, award_id::uuid, catalog_version,
           trigger_id, trigger_type, metadata::jsonb
    FROM given
), logged AS (
    INSERT INTO badge_awards_log (user_id, sequence, badge_key, context, awarded_at, source, origin, award_id,
                                  catalog_version, trigger_id, trigger_type, metadata)
    SELECT user_id, sequence, badge_key, context, awarded_at, source, origin, award_id::uuid, catalog_version,
           trigger_id, trigger_type, metadata::jsonb
    FROM given
)
INSERT INTO outbox (shard, topic, messages)
SELECT shard, $14, messages
FROM unnest($13::smallint[], $15::bytea[]) WITH ORDINALITY AS m (shard, messages, place)
ORDER BY place
RETURNING EXISTS (SELECT 1 FROM badge_awards_log WHERE kind = 'revoked') AS revoking;

-- ================================================================ outbox

-- name: publish
-- Put messages into the outbox, ids in the order of the arrays.
INSERT INTO outbox (shard, topic, messages)
SELECT shard, $2, messages
FROM unnest($1::smallint[], $3::bytea[]) WITH ORDINALITY AS m (shard, messages, place)
ORDER BY place;

-- name: unpublished
-- The oldest waiting rows of some shards, by id: never by a cursor, since a lower id may commit later. At most so many
-- rows and about so many bytes of each shard, and one row at least.
SELECT o.id, o.shard, o.topic, o.messages,
       extract(epoch FROM clock_timestamp() - o.created_at)::float8 AS age_seconds
FROM unnest($1::smallint[]) AS wanted (shard)
CROSS JOIN LATERAL (
    SELECT oldest.*, sum(octet_length(oldest.messages)) OVER (ORDER BY oldest.id) AS bytes
    FROM (
        SELECT id, shard, topic, messages, created_at FROM outbox
        WHERE shard = wanted.shard AND published_at IS NULL AND parked IS NULL
        ORDER BY id
        LIMIT $2
    ) AS oldest
) AS o
WHERE o.bytes - octet_length(o.messages) < $3::bigint
ORDER BY o.id;

-- name: mark_published
-- Mark rows as published, each under its lease, where that is still ours; the leases that are. The commit does not wait
-- for the disk (in the output, since it must be evaluated; for this transaction only): a mark that a crash of the server
-- takes back means that messages are sent again, in order and with the same ids, which is promised anyhow.
WITH held AS (
    SELECT l.name FROM leases l JOIN unnest($1::text[], $2::uuid[]) AS ours (name, token) USING (name)
    WHERE l.token = ours.token
    FOR SHARE OF l
), marked AS (
    UPDATE outbox o SET published_at = clock_timestamp()
    FROM unnest($3::text[], $4::bigint[]) AS sent (lease, id)
    WHERE o.id = sent.id AND o.published_at IS NULL AND sent.lease IN (SELECT name FROM held)
)
SELECT name, set_config('synchronous_commit', 'off', true) FROM held;

-- name: park
-- Set one message of a row aside in a row of its own, if the lease is still ours; says whether it is. What is left of
-- the row waits on in its place; where nothing is left it goes.
WITH lease AS (
    SELECT 1 FROM leases WHERE name = $1 AND token = $2 FOR SHARE
), whole AS (
    SELECT id, shard, topic, created_at FROM outbox
    WHERE id = $3 AND published_at IS NULL AND parked IS NULL AND EXISTS (SELECT 1 FROM lease)
), aside AS (
    INSERT INTO outbox (shard, topic, messages, created_at, parked)
    SELECT shard, topic, $5, created_at, $4 FROM whole
), rest AS (
    UPDATE outbox SET messages = $6 WHERE $6::bytea IS NOT NULL AND id = (SELECT id FROM whole)
), gone AS (
    DELETE FROM outbox WHERE $6::bytea IS NULL AND id = (SELECT id FROM whole)
)
SELECT EXISTS (SELECT 1 FROM lease) AS held;

-- name: outbox_figures
-- How many rows wait, and how old the oldest is.
SELECT count(*) AS waiting,
       coalesce(extract(epoch FROM clock_timestamp() - min(created_at)), 0)::float8 AS oldest_seconds
FROM outbox WHERE published_at IS NULL AND parked IS NULL;

-- name: prune_outbox
-- Remove rows published more than so many days ago, at most so many at once.
DELETE FROM outbox WHERE id IN (
    SELECT id FROM outbox
    WHERE published_at IS NOT NULL AND published_at < clock_timestamp() - make_interval(days => $1)
    ORDER BY published_at LIMIT $2
);

-- ================================================================ leases

-- name: acquire_lease
-- Take a lease that is free, expired or this owner's; the token is new in each case.
INSERT INTO leases AS l (name, owner, expires_at)
VALUES ($1, $2, clock_timestamp() + make_interval(secs => $3))
ON CONFLICT (name) DO UPDATE
SET owner = excluded.owner, epoch = l.epoch + 1, token = gen_random_uuid(),
    expires_at = clock_timestamp() + make_interval(secs => $3)
WHERE l.expires_at < clock_timestamp() OR l.owner = excluded.owner
RETURNING token;

-- name: renew_lease
-- Keep a lease; it counts as ours until another takes it. The commit does not wait for the disk: a renewal that a crash of
-- the server takes back leaves the lease ours by its token, only its end is earlier. At worst another takes it while we
-- trust it still, as with a holder that was frozen: nothing is marked or moved without the token, so that does no harm.
UPDATE leases SET expires_at = clock_timestamp() + make_interval(secs => $3) WHERE name = $1 AND token = $2
RETURNING set_config('synchronous_commit', 'off', true);

-- name: resign_lease
-- Give a lease back, if it is still ours.
DELETE FROM leases WHERE name = $1 AND token = $2;

-- ================================================================ catalog

-- name: lock_catalog
-- Held by who moves the head: waits for every running batch, keeps new ones waiting.
SELECT pg_advisory_xact_lock($1, $2);

-- name: catalog_version
-- The version that rules.
SELECT version FROM catalog_head WHERE single;

-- name: catalog_head
-- The version that rules, with its text.
SELECT v.version, v.hash, v.document, coalesce(v.basis, v.version) AS basis, v.memories, v.program
FROM catalog_head h JOIN catalog_versions v USING (version);

-- name: catalog_stored
-- One version, with its text.
SELECT version, hash, document, coalesce(basis, version) AS basis, memories, program
FROM catalog_versions WHERE version = $1;

-- name: catalog_versions
-- The newest versions before one, without their text.
SELECT v.version, coalesce(v.basis, v.version) AS basis, v.badges, v.changes, v.note, v.applied_by,
       v.applied_at AS applied_us, h.version IS NOT NULL AS rules
FROM catalog_versions v LEFT JOIN catalog_head h USING (version)
WHERE v.version < $1
ORDER BY v.version DESC
LIMIT $2;

-- name: catalog_lock_holders
-- Who keeps the head of the catalog where it is: connections and for how many seconds.
SELECT a.application_name, a.pid, extract(epoch FROM clock_timestamp() - a.xact_start)::float8 AS seconds
FROM pg_locks l JOIN pg_stat_activity a USING (pid)
WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 2 AND l.pid <> pg_backend_pid()
  AND l.classid = $1::bigint::oid AND l.objid = $2::bigint::oid
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
ORDER BY a.xact_start;

-- name: catalog_knows
-- Whether a catalog with this hash was ever a version.
SELECT EXISTS (SELECT 1 FROM catalog_versions WHERE hash = $1) AS known;

-- name: insert_catalog
-- Write the next version; its basis is its own number where none is given.
INSERT INTO catalog_versions (version, hash, document, applied_by, basis, badges, changes, note, memories, program)
SELECT coalesce(max(version), 0) + 1, $1, $2, $3, coalesce($4, coalesce(max(version), 0) + 1), $5, $6, $7, $8, $9
FROM catalog_versions
RETURNING version;

-- name: note_memories
-- Say of a version by which identities and program its memories are built, where nothing is said yet; what stands then.
UPDATE catalog_versions SET memories = coalesce(memories, $2), program = coalesce(program, $3)
WHERE version = $1
RETURNING memories, program;

-- name: knows_memories
-- Whether the memories of a catalog were ever built by these identities.
SELECT EXISTS (SELECT 1 FROM catalog_versions WHERE hash = $1 AND memories = $2) AS known;

-- name: move_head
-- Let a version rule.
INSERT INTO catalog_head (version) VALUES ($1) ON CONFLICT (single) DO UPDATE SET version = excluded.version;

-- name: begin_build
-- Make the row of a version's build, where it is missing.
INSERT INTO catalog_builds (version) VALUES ($1) ON CONFLICT DO NOTHING;

-- name: build_is_done
-- Whether the build of a version is done; nothing where it has not begun.
SELECT done_at IS NOT NULL AS done FROM catalog_builds WHERE version = $1;

-- name: take_build
-- How far the build of a version is, locked to the end of the transaction; nothing where another transaction has it.
SELECT after FROM catalog_builds WHERE version = $1 AND done_at IS NULL FOR UPDATE SKIP LOCKED;

-- name: any_behind
-- Whether some user is not built for a version. Asked once all were looked at.
SELECT EXISTS (SELECT 1 FROM users WHERE built_version IS DISTINCT FROM $1) AS left_over;

-- name: arrived_since
-- A user's events that were logged since a version of the catalog was applied.
SELECT source, id FROM events
WHERE user_id = $1 AND received_at >= (SELECT applied_at FROM catalog_versions WHERE version = $2);

-- name: users_behind
-- Of the next users those who are not built for a version, and the last one in any case.
WITH page AS (
    SELECT user_id, built_version IS DISTINCT FROM $2 AS behind FROM users
    WHERE user_id > $1 ORDER BY user_id LIMIT $3
)
SELECT user_id, behind FROM page WHERE behind OR user_id = (SELECT max(user_id) FROM page) ORDER BY user_id;

-- name: move_build
-- Users up to one are at the version; without one all are.
UPDATE catalog_builds
SET after = coalesce($2, after), users = users + $3, awards = awards + $4, moved_at = clock_timestamp(),
    done_at = CASE WHEN $2 IS NULL THEN clock_timestamp() END
WHERE version = $1;

-- name: log_exceeds
-- Whether a user's log has more events than so many.
SELECT count(*) > $2 AS longer FROM (SELECT 1 FROM events WHERE user_id = $1 LIMIT $2 + 1) AS e;

-- name: queue_users
-- Note users as to be folded again; those noted already stay as they are.
INSERT INTO recompute_queue (user_id, version)
SELECT user_id, $2 FROM unnest($1::text[]) AS u (user_id)
ON CONFLICT DO NOTHING;

-- name: queued_users
-- The users who wait the longest to be folded again, but for those whom another transaction has in hand.
SELECT user_id, version FROM recompute_queue ORDER BY queued_at, user_id LIMIT $1 FOR UPDATE SKIP LOCKED;

-- name: unqueue_users
-- Strike users off.
DELETE FROM recompute_queue WHERE user_id = ANY ($1::text[]);

-- name: insert_badges
-- Give ids to badges that have none, in order of their place in the catalog.
INSERT INTO badges (key, kind, family, label, description, tier, sort_score, status, catalog_version)
SELECT key, '', '', '', '', NULL, 0, '', $2
FROM unnest($1::text[]) WITH ORDINALITY AS b (key, place)
WHERE NOT EXISTS (SELECT 1 FROM badges k WHERE k.key = b.key)
ORDER BY place;

-- name: update_badges
-- Take over what the new version says of its badges.
UPDATE badges k
SET kind = b.kind, family = b.family, label = b.label, description = b.description, tier = b.tier,
    sort_score = b.sort_score, status = b.status, catalog_version = $9, updated_at = now()
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::integer[], $7::integer[], $8::text[])
    AS b (key, kind, family, label, description, tier, sort_score, status)
WHERE k.key = b.key
  AND (k.kind, k.family, k.label, k.description, k.tier, k.sort_score, k.status)
      IS DISTINCT FROM (b.kind, b.family, b.label, b.description, b.tier, b.sort_score, b.status);

-- name: deprecate_badges
-- Badges that the new version leaves out give no more awards.
UPDATE badges SET status = 'deprecated', catalog_version = $2, updated_at = now()
WHERE key <> ALL($1::text[]) AND status <> 'deprecated';

-- name: insert_event_types
-- Give ids to event types that have none.
INSERT INTO event_types (name, catalog_version)
SELECT name, $2 FROM unnest($1::text[]) WITH ORDINALITY AS t (name, place)
WHERE NOT EXISTS (SELECT 1 FROM event_types k WHERE k.name = t.name)
ORDER BY place;

-- ================================================================ population: what a catalog would give

-- name: begin_reading
-- Nothing is written from here to the end of the transaction.
SET TRANSACTION READ ONLY;

-- name: count_users
-- How many users there are.
SELECT count(*) AS users FROM users;

-- name: next_users
-- The next users after one.
SELECT user_id FROM users WHERE user_id > $1 ORDER BY user_id LIMIT $2;

-- name: held_among
-- The awards of some badges that some users hold.
SELECT user_id, badge_key, context, awarded_at
FROM user_badges
WHERE user_id = ANY($1::text[]) AND badge_key = ANY($2::text[]);

-- name: events_among
-- The next events of a row of users, user by user and in order, after a key (user, instant, source, id).
SELECT user_id, source, id, type, occurred_at, payload, verdicts
FROM events
WHERE user_id >= $1 AND user_id <= $5 AND (user_id, occurred_at, source, id) > ($1, $2, $3::text, $4::text)
  AND ($6::text[] IS NULL OR type = ANY($6))
ORDER BY user_id, occurred_at, source, id
LIMIT $7;

-- name: count_awards
-- How many awards of some badges are held.
SELECT badge_key, count(*) AS awards FROM user_badges WHERE badge_key = ANY($1::text[]) GROUP BY badge_key;

-- ================================================================ dead letters

-- name: bury
-- Store dead letters; one that is there stays. The places of the new ones come back, from 1.
WITH wanted AS (
    SELECT *
    FROM unnest($1::text[], $2::integer[], $3::bigint[], $4::integer[], $5::text[], $6::text[], $7::text[], $8::text[],
                $9::bytea[], $10::bytea[], $11::bytea[], $12::bigint[], $13::timestamptz[], $14::bytea[],
                $15::text[])
        WITH ORDINALITY
        AS d (topic, partition, at, incarnation, reason, detail, path, user_id, key, raw, sha256, length, recorded_at,
              headers, said_type, place)
), fresh AS (
    INSERT INTO dead_letters (topic, partition, "offset", incarnation, reason, detail, path, user_id, key, raw, sha256,
                              length, recorded_at, headers, said_type)
    SELECT topic, partition, at, incarnation, reason, detail, path, user_id, key, raw, sha256, length, recorded_at,
           headers, said_type
    FROM wanted
    ORDER BY topic COLLATE "C", partition, at
    ON CONFLICT DO NOTHING
    RETURNING topic, partition, "offset", incarnation
)
SELECT w.place FROM wanted w
JOIN fresh f ON f.topic = w.topic AND f.partition = w.partition AND f."offset" = w.at AND f.incarnation = w.incarnation
ORDER BY w.place;

-- name: dead_letter_counts
-- How many dead letters there are for each reason.
SELECT reason, count(*) AS letters, min(buried_at) AS first_at, max(buried_at) AS last_at
FROM dead_letters GROUP BY reason ORDER BY letters DESC, reason;

-- name: list_dead_letters
-- Dead letters, newest first, before a number (for the next page); of one reason, topic, state, type, or since an instant.
SELECT number, topic, partition, "offset", incarnation, reason, detail, path, user_id, length, recorded_at, buried_at,
       state
FROM dead_letters
WHERE ($1::text IS NULL OR reason = $1) AND ($2::bigint IS NULL OR number < $2)
  AND ($4::text IS NULL OR topic = $4) AND ($5::timestamptz IS NULL OR buried_at >= $5)
  AND ($6::text IS NULL OR state = $6) AND ($7::text IS NULL OR said_type = $7)
ORDER BY number DESC
LIMIT $3;

-- name: show_dead_letter
-- One dead letter, whole; of several incarnations of a topic the last one.
SELECT number, topic, partition, "offset", incarnation, reason, detail, path, user_id, length, recorded_at, buried_at,
       state, key, raw, sha256, headers
FROM dead_letters
WHERE topic = $1 AND partition = $2 AND "offset" = $3
ORDER BY incarnation DESC
LIMIT 1;

-- ================================================================ the server

-- name: server_settings
-- What a worker insists on before it trusts a database.
SELECT current_setting('server_version_num')::integer AS server_version_num,
       current_setting('server_encoding') AS server_encoding,
       current_setting('fsync') AS fsync,
       current_setting('full_page_writes') AS full_page_writes,
       current_setting('synchronous_commit') AS synchronous_commit,
       current_setting('transaction_read_only') AS transaction_read_only,
       current_setting('default_transaction_isolation') AS default_transaction_isolation;

-- name: applied_migrations
-- The migrations this database has.
SELECT number, name, sha256, applied_at FROM schema_migrations ORDER BY number;

-- name: schema_version
-- The number of the last migration this database has.
SELECT coalesce(max(number), 0) AS version FROM schema_migrations;

-- ================================================================ what must not come back

-- name: removal_rules
-- Per type, the age below which events are refused; one row without a type where some user was erased.
SELECT NULL::text AS type, NULL::timestamptz AS floor FROM (SELECT 1 FROM erased_users LIMIT 1) AS erased
UNION ALL
SELECT type, floor FROM retention_floors;

-- name: erased_among
-- When the users with these hashes were erased, of those who were.
SELECT user_hash, erased_at FROM erased_users WHERE user_hash = ANY ($1::bytea[]);
