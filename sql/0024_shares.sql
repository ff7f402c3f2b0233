-- How rare badges are: of the users who were active lately, how many hold each.

CREATE TABLE badge_shares (
    badge_key      text COLLATE "C" PRIMARY KEY,
    active_holders bigint NOT NULL,
    active_users   bigint NOT NULL,
    active_days    integer NOT NULL,
    counted_at     timestamptz NOT NULL
);
COMMENT ON COLUMN badge_shares.active_holders IS 'Active users who hold it, in whatever context';
COMMENT ON COLUMN badge_shares.active_users IS 'Users with an event of the last `active_days`, counted with them';
COMMENT ON COLUMN badge_shares.counted_at IS 'Up to when arrivals were counted by then';
