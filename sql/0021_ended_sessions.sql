-- Sessions of the panel that people ended before their time: every process refuses copies of their cookies.
CREATE TABLE ended_sessions (
    sha256   bytea PRIMARY KEY,
    ended_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX ended_sessions_by_age ON ended_sessions (ended_at);
COMMENT ON COLUMN ended_sessions.sha256 IS 'Hash of the session''s own token, which has 192 random bits';
