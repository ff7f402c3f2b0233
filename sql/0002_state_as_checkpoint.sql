-- State becomes a checkpoint of the log: it is written now and then, and the log after it is folded when it is read.

-- Which claim of a partition has the user in memory. Whoever else changes the user puts another one here, or none.
ALTER TABLE users ADD COLUMN home uuid;
COMMENT ON COLUMN users.home IS 'Token of the claim under which the user was last changed; what it has in memory is whole';
COMMENT ON COLUMN users.newest_at IS 'With source and id: the newest event that the state holds; later ones are in the log';
COMMENT ON COLUMN users.award_sequence IS 'A lower bound; the last award of the user in badge_awards_log may be higher';

-- Memories are kept in another form from here on: users are folded again from their logs, by their next event or by the
-- build of the catalog.
UPDATE users SET built_version = NULL, state = NULL, newest_at = NULL, newest_source = NULL, newest_id = NULL;
DELETE FROM user_scopes;

-- The last award of a user is found by the key. What was granted and taken back is found by the few rows that say so.
-- The table is locked meanwhile: awards are few beside events, and batches wait.
-- squawk-ignore ban-drop-constraint
ALTER TABLE badge_awards_log DROP CONSTRAINT badge_awards_log_pkey;
-- squawk-ignore adding-serial-primary-key-field, constraint-missing-not-valid
ALTER TABLE badge_awards_log ADD PRIMARY KEY (user_id, sequence);
-- squawk-ignore require-concurrent-index-creation
CREATE INDEX badge_awards_log_revoked ON badge_awards_log (user_id, badge_key, context) WHERE kind = 'revoked';

-- Messages are read once and soon: to compress them costs more than it saves.
ALTER TABLE outbox ALTER COLUMN messages SET STORAGE EXTERNAL;

-- How far the users of older versions were brought to a version: those up to `after` are done.
CREATE TABLE catalog_builds (
    version    integer PRIMARY KEY REFERENCES catalog_versions (version),
    after      text COLLATE "C" NOT NULL DEFAULT '',
    users      bigint NOT NULL DEFAULT 0,
    awards     bigint NOT NULL DEFAULT 0,
    started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    moved_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    done_at    timestamptz
);
