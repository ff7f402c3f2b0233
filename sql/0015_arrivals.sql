-- What is read of the log in the order in which it arrived: by those who count it, and by those who look for the days
-- on which users joined. The write path knows nothing of them.

-- A few bytes for each 32 pages: rows arrive in the order of their time, so a day's are found without a scan. Each table
-- is locked and read once meanwhile; nothing is sorted.
-- squawk-ignore require-concurrent-index-creation
CREATE INDEX events_by_arrival ON events USING brin (received_at) WITH (pages_per_range = 32, autosummarize = on);
-- squawk-ignore require-concurrent-index-creation
CREATE INDEX badge_awards_log_by_arrival ON badge_awards_log
    USING brin (logged_at) WITH (pages_per_range = 16, autosummarize = on);

-- How far each reader is.
CREATE TABLE log_readers (
    name  text COLLATE "C" PRIMARY KEY,
    rule  text NOT NULL,
    upto  timestamptz NOT NULL,
    after text COLLATE "C" DEFAULT ''
);
COMMENT ON COLUMN log_readers.rule IS 'What it reads for; another rule begins anew';
COMMENT ON COLUMN log_readers.upto IS 'Everything that arrived before this was read, of the users up to `after`';
COMMENT ON COLUMN log_readers.after IS 'While it begins, user by user: the last one; null once it has begun';

-- How many events of each type arrived on each day (UTC), and when the last one did.
CREATE TABLE event_days (
    type    text COLLATE "C" NOT NULL,
    day     date NOT NULL,
    events  bigint NOT NULL,
    last_at timestamptz NOT NULL,
    PRIMARY KEY (type, day)
);

-- When the newest event of each user occurred that counts as activity.
CREATE TABLE user_activity (
    user_id   text COLLATE "C" PRIMARY KEY,
    newest_at timestamptz NOT NULL
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05);

-- How many users were active when a day (UTC) ended: those with an event of the last so many days.
CREATE TABLE activity_days (
    day          date PRIMARY KEY,
    active_days  integer NOT NULL,
    active_users bigint NOT NULL,
    users        bigint NOT NULL
);

-- On which local day each user joined, by each event type from which years are counted, and the zone the user has now.
CREATE TABLE user_tenures (
    user_id      text COLLATE "C" NOT NULL,
    type         text COLLATE "C" NOT NULL,
    day          date NOT NULL,
    month_day    smallint NOT NULL,
    zone         text COLLATE "C" NOT NULL,
    zone_at      timestamptz,
    changed      boolean NOT NULL,
    since_at     timestamptz NOT NULL,
    since_source text COLLATE "C" NOT NULL,
    since_id     text COLLATE "C" NOT NULL,
    PRIMARY KEY (user_id, type)
) WITH (fillfactor = 90);
CREATE INDEX user_tenures_by_day ON user_tenures (type, month_day, zone, user_id);
CREATE INDEX user_tenures_changed ON user_tenures (user_id, type) WHERE changed;
COMMENT ON COLUMN user_tenures.month_day IS 'Month times 100 and day: who has an anniversary is found by it';
COMMENT ON COLUMN user_tenures.zone_at IS 'When the user last named the zone; null for the catalog''s';
COMMENT ON COLUMN user_tenures.changed IS 'Whether the day that has begun must be looked at once more for this user';
