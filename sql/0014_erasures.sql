-- Who asked for an erasure, and how much went: what is left to show, without saying whom it was about.
ALTER TABLE erased_users
    ADD COLUMN erased_by text NOT NULL DEFAULT '',
    ADD COLUMN note      text NOT NULL DEFAULT '',
    ADD COLUMN rows      bigint NOT NULL DEFAULT 0,
    ADD COLUMN times     integer NOT NULL DEFAULT 1;
COMMENT ON COLUMN erased_users.rows IS 'Rows removed';
COMMENT ON COLUMN erased_users.times IS 'How often: who comes back is a new person, and may be erased again';
