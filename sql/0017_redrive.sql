-- What a dead letter needs to be tried again: its headers, which binary CloudEvents live in; and what came of it.
ALTER TABLE dead_letters
    ADD COLUMN headers  bytea,
    ADD COLUMN attempts integer NOT NULL DEFAULT 0,
    ADD COLUMN tried_at timestamptz;
COMMENT ON COLUMN dead_letters.headers IS
    'msgpack: [[name, value], ...]; null where they are too large or from before this column';
COMMENT ON COLUMN dead_letters.state IS 'new, or replayed: applied after all';
COMMENT ON COLUMN dead_letters.attempts IS 'How often it was tried again';
