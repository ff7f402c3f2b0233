-- What breakers count, and the awards they hold back by badge.

-- The awards of badges with a breaker by the minute of their record's timestamp; a partition changes its own rows only.
CREATE TABLE award_tallies (
    minute    timestamptz NOT NULL,
    badge_key text COLLATE "C" NOT NULL,
    topic     text COLLATE "C" NOT NULL,
    partition integer NOT NULL,
    awards    bigint NOT NULL,
    PRIMARY KEY (minute, badge_key, topic, partition)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.1);

-- The table is as good as empty until now: nothing gave rows to it.
-- squawk-ignore require-concurrent-index-creation
CREATE INDEX withheld_awards_held ON withheld_awards (badge_key, user_id, context) WHERE state = 'held';
