-- Who holds what, by day, and what is usual of each badge.

-- A badge has a row for each day (UTC) on which its awards changed; on other days it has as many holders as before.
CREATE TABLE badge_holders (
    badge_key  text COLLATE "C" NOT NULL,
    day        date NOT NULL,
    holders    bigint NOT NULL,
    gained     bigint NOT NULL DEFAULT 0,
    lost       bigint NOT NULL DEFAULT 0,
    awards     bigint NOT NULL DEFAULT 0,
    backfilled bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (badge_key, day)
);
CREATE INDEX badge_holders_by_day ON badge_holders (day);
COMMENT ON COLUMN badge_holders.holders IS 'Different users who hold it, in whatever context, at the end of the day';
COMMENT ON COLUMN badge_holders.awards IS 'Awards given on the day, but for those that a backfill gave';

-- What is usual of a badge on a day, from the 28 days before.
CREATE TABLE badge_baselines (
    badge_key text COLLATE "C" PRIMARY KEY,
    day       date NOT NULL,
    usual     double precision NOT NULL,
    spread    double precision NOT NULL,
    days      integer NOT NULL
);
COMMENT ON COLUMN badge_baselines.usual IS 'Awards a day: the median, or that of the same weekday where it is larger';
COMMENT ON COLUMN badge_baselines.spread IS 'Median distance of a day from the median, times 1.4826';
COMMENT ON COLUMN badge_baselines.days IS 'How many of the 28 days there are since the badge was first awarded';
