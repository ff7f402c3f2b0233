-- What retention removed of a user's log lives on in memory: the state at the cut, from which the log is folded again.
CREATE TABLE sealed_states (
    user_id       text COLLATE "C" NOT NULL,
    scope         text COLLATE "C" NOT NULL,
    newest_at     timestamptz NOT NULL,
    newest_source text COLLATE "C" NOT NULL,
    newest_id     text COLLATE "C" NOT NULL,
    types         text[] NOT NULL,
    state         bytea NOT NULL,
    PRIMARY KEY (user_id, scope)
);
COMMENT ON TABLE sealed_states IS 'The memories whose events retention removed, up to and with the event named';
COMMENT ON COLUMN sealed_states.types IS 'The event types of which the user''s log may lack some';
COMMENT ON COLUMN sealed_states.scope IS 'As in user_scopes; empty, and always there, for the user as a whole';
