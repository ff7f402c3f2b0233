-- The tables of badgestream. Names are unqualified: the runner sets the schema (badges).
-- Every text key compares by code point (collation "C"), as the order of events does; every large table's key begins
-- with user_id, so that the schema can be distributed by user.

-- ---------------------------------------------------------------- where the stream stands

-- The fence: one row per partition. next_offset is the offset; Kafka's own is a hint for lag tools.
CREATE TABLE partitions (
    group_id      text COLLATE "C" NOT NULL,
    topic         text COLLATE "C" NOT NULL,
    partition     integer NOT NULL,
    incarnation   integer NOT NULL DEFAULT 1,
    epoch         bigint NOT NULL DEFAULT 0,
    token         uuid NOT NULL DEFAULT gen_random_uuid(),
    generation    bigint NOT NULL DEFAULT -1,
    owner         text,
    owner_pid     integer,
    next_offset   bigint NOT NULL,
    last_offset   bigint,
    last_sha      bytea,
    attempts      integer NOT NULL DEFAULT 0,
    claimed_at    timestamptz,
    progressed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (group_id, topic, partition)
) WITH (fillfactor = 40, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
COMMENT ON TABLE partitions IS 'Owner and position of each Kafka partition; every batch moves its row first';
COMMENT ON COLUMN partitions.token IS 'New with each claim; a batch that shows another one is fenced';
COMMENT ON COLUMN partitions.last_sha IS 'sha256 of the last applied record: finds a topic that was created again';
COMMENT ON COLUMN partitions.attempts IS 'Claims since the last progress that no clean release preceded';

-- Holes in a partition's offsets that were accepted.
CREATE TABLE stream_gaps (
    group_id    text COLLATE "C" NOT NULL,
    topic       text COLLATE "C" NOT NULL,
    partition   integer NOT NULL,
    from_offset bigint NOT NULL,
    to_offset   bigint NOT NULL,
    cause       text NOT NULL,
    seen_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (group_id, topic, partition, from_offset, to_offset)
);

-- Records that are no event, or that the database could not store.
CREATE TABLE dead_letters (
    topic       text COLLATE "C" NOT NULL,
    partition   integer NOT NULL,
    "offset"    bigint NOT NULL,
    incarnation integer NOT NULL DEFAULT 1,
    number      bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
    reason      text COLLATE "C" NOT NULL,
    detail      text NOT NULL,
    path        text NOT NULL DEFAULT '',
    user_id     text COLLATE "C",
    key         bytea,
    raw         bytea NOT NULL,
    sha256      bytea NOT NULL,
    length      bigint NOT NULL,
    recorded_at timestamptz,
    buried_at   timestamptz NOT NULL DEFAULT now(),
    state       text NOT NULL DEFAULT 'new',
    PRIMARY KEY (topic, partition, "offset", incarnation)
);
CREATE INDEX dead_letters_by_reason ON dead_letters (reason, number);
COMMENT ON COLUMN dead_letters.raw IS 'The first 64 KiB of the value; length and sha256 are those of the whole';
COMMENT ON COLUMN dead_letters.recorded_at IS 'The record''s own Kafka timestamp, where it is a date';
COMMENT ON COLUMN dead_letters.number IS 'Order of arrival, for paging';

-- ---------------------------------------------------------------- what happened, and what is known of each user

-- The event log: append-only; its key is what makes a repeat a duplicate.
CREATE TABLE events (
    user_id     text COLLATE "C" NOT NULL,
    source      text COLLATE "C" NOT NULL DEFAULT '',
    id          text COLLATE "C" NOT NULL,
    type        text COLLATE "C" NOT NULL,
    occurred_at timestamptz NOT NULL,
    payload     jsonb NOT NULL,
    received_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (user_id, source, id)
);
CREATE INDEX events_by_time ON events (user_id, occurred_at);

-- One row per user: the lock every change of a user takes, and the memory of the folds of the user as a whole.
CREATE TABLE users (
    user_id        text COLLATE "C" PRIMARY KEY,
    revision       bigint NOT NULL DEFAULT 0,
    award_sequence bigint NOT NULL DEFAULT 0,
    built_version  integer,
    newest_at      timestamptz,
    newest_source  text COLLATE "C",
    newest_id      text COLLATE "C",
    state          bytea
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05);
COMMENT ON COLUMN users.built_version IS 'Catalog version whose folds the state holds; null: none yet';
COMMENT ON COLUMN users.state IS 'msgpack: fold id to state';

-- The memory of folds that are kept for each value of a payload field; scope is `field=value`.
CREATE TABLE user_scopes (
    user_id text COLLATE "C" NOT NULL,
    scope   text COLLATE "C" NOT NULL,
    state   bytea NOT NULL,
    PRIMARY KEY (user_id, scope)
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05);

-- ---------------------------------------------------------------- awards

-- Current awards. The key is what makes a second award of the same badge impossible.
CREATE TABLE user_badges (
    user_id         text COLLATE "C" NOT NULL,
    badge_key       text COLLATE "C" NOT NULL,
    context         text COLLATE "C" NOT NULL DEFAULT '',
    awarded_at      timestamptz NOT NULL,
    source          text COLLATE "C" NOT NULL CHECK (source IN ('auto', 'manual')),
    origin          text COLLATE "C" NOT NULL CHECK (origin IN ('live', 'late', 'backfill', 'cron', 'manual')),
    sort_override   integer,
    sequence        bigint NOT NULL,
    award_id        uuid NOT NULL,
    catalog_version integer NOT NULL,
    trigger_id      text COLLATE "C",
    trigger_type    text COLLATE "C",
    metadata        jsonb NOT NULL DEFAULT '{}',
    PRIMARY KEY (user_id, context, badge_key)
);
COMMENT ON COLUMN user_badges.sequence IS 'Place in the user''s line of awards, as on the awards topic';

-- Every award and every revocation, for ever: what user_badges is restored from.
CREATE TABLE badge_awards_log (
    user_id         text COLLATE "C" NOT NULL,
    badge_key       text COLLATE "C" NOT NULL,
    context         text COLLATE "C" NOT NULL DEFAULT '',
    award_id        uuid NOT NULL,
    kind            text COLLATE "C" NOT NULL DEFAULT 'awarded' CHECK (kind IN ('awarded', 'revoked')),
    awarded_at      timestamptz NOT NULL,
    source          text COLLATE "C" NOT NULL,
    origin          text COLLATE "C" NOT NULL,
    sequence        bigint NOT NULL,
    catalog_version integer NOT NULL,
    trigger_id      text COLLATE "C",
    trigger_type    text COLLATE "C",
    metadata        jsonb NOT NULL DEFAULT '{}',
    reason          text,
    logged_at       timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (user_id, badge_key, context, award_id)
);

-- Awards that are kept back, or that were dropped or taken away for good.
CREATE TABLE withheld_awards (
    user_id         text COLLATE "C" NOT NULL,
    badge_key       text COLLATE "C" NOT NULL,
    context         text COLLATE "C" NOT NULL DEFAULT '',
    state           text COLLATE "C" NOT NULL CHECK (state IN ('held', 'dropped', 'revoked')),
    awarded_at      timestamptz NOT NULL,
    source          text COLLATE "C" NOT NULL,
    origin          text COLLATE "C" NOT NULL,
    catalog_version integer NOT NULL,
    trigger_id      text COLLATE "C",
    trigger_type    text COLLATE "C",
    metadata        jsonb NOT NULL DEFAULT '{}',
    reason          text,
    withheld_at     timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (user_id, context, badge_key)
);

-- Logs are written once. Erasure and retention say so first: SET LOCAL badges.removal = 'on'.
CREATE FUNCTION refuse_rewriting() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF current_setting('badges.removal', true) IS DISTINCT FROM 'on' THEN
        RAISE EXCEPTION '% is append-only: % is refused', TG_TABLE_NAME, TG_OP
            USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER badge_awards_log_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON badge_awards_log
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_rewriting();
CREATE TRIGGER events_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON events
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_rewriting();

-- ---------------------------------------------------------------- what goes out

-- Messages that wait for the relay: one row per transaction, topic and shard of users, in order of id within a user,
-- because the id is drawn under the user's lock.
CREATE TABLE outbox (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    shard        smallint NOT NULL,
    topic        text COLLATE "C" NOT NULL,
    messages     bytea NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now(),
    published_at timestamptz,
    parked       text
) WITH (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 1000);
CREATE INDEX outbox_waiting ON outbox (shard, id) WHERE published_at IS NULL AND parked IS NULL;
CREATE INDEX outbox_published ON outbox (published_at) WHERE published_at IS NOT NULL;
COMMENT ON COLUMN outbox.messages IS 'msgpack: a list of [key, value, [[header, value], ...]]';
COMMENT ON COLUMN outbox.parked IS 'Why a row was set aside that no producer can send';

-- Who does a job that only one may do; by the database's clock.
CREATE TABLE leases (
    name       text COLLATE "C" PRIMARY KEY,
    owner      text NOT NULL,
    epoch      bigint NOT NULL DEFAULT 1,
    token      uuid NOT NULL DEFAULT gen_random_uuid(),
    expires_at timestamptz NOT NULL
) WITH (fillfactor = 50);

-- ---------------------------------------------------------------- the catalog

CREATE TABLE catalog_versions (
    version    integer PRIMARY KEY,
    hash       text COLLATE "C" NOT NULL,
    document   json NOT NULL,
    applied_by text NOT NULL DEFAULT '',
    applied_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON COLUMN catalog_versions.document IS 'The whole catalog; json, not jsonb, because the order of keys is the author''s';

-- The version that rules; at most one row.
CREATE TABLE catalog_head (
    single  boolean PRIMARY KEY DEFAULT true CHECK (single),
    version integer NOT NULL REFERENCES catalog_versions (version)
);

CREATE TABLE badges (
    key              text COLLATE "C" PRIMARY KEY,
    id               integer GENERATED ALWAYS AS IDENTITY UNIQUE,
    kind             text COLLATE "C" NOT NULL,
    family           text COLLATE "C" NOT NULL,
    label            text NOT NULL,
    description      text NOT NULL,
    tier             integer,
    sort_score       integer NOT NULL,
    status           text COLLATE "C" NOT NULL,
    catalog_version  integer NOT NULL,
    users_with_badge bigint NOT NULL DEFAULT 0,
    created_at       timestamptz NOT NULL DEFAULT now(),
    updated_at       timestamptz NOT NULL DEFAULT now()
);
COMMENT ON COLUMN badges.id IS 'Given once and never again to another key';

CREATE TABLE event_types (
    name            text COLLATE "C" PRIMARY KEY,
    id              integer GENERATED ALWAYS AS IDENTITY UNIQUE,
    catalog_version integer NOT NULL,
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now()
);

-- ---------------------------------------------------------------- people

-- Users who were erased: only the hash of their id stays, so that their old events are not taken again.
CREATE TABLE erased_users (
    user_hash bytea PRIMARY KEY,
    erased_at timestamptz NOT NULL
);
COMMENT ON COLUMN erased_users.user_hash IS 'sha256 of the user id';

-- Up to which instant events of a type were removed for their age: older ones are refused, or a replay would bring back
-- a part of what is gone.
CREATE TABLE retention_floors (
    type  text COLLATE "C" PRIMARY KEY,
    floor timestamptz NOT NULL
);
