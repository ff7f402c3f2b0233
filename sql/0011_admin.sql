-- Who may use the HTTP API, and what was changed by whom.

-- Tokens: never their text. Rows stay when a token is revoked, so that the audit log's names keep their meaning.
CREATE TABLE api_tokens (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name       text COLLATE "C" NOT NULL,
    role       text COLLATE "C" NOT NULL CHECK (role IN ('reader', 'producer', 'support', 'author', 'admin')),
    sha256     bytea NOT NULL UNIQUE,
    created_at timestamptz NOT NULL DEFAULT now(),
    created_by text NOT NULL DEFAULT '',
    used_at    timestamptz,
    revoked_at timestamptz
);
CREATE UNIQUE INDEX api_tokens_live_name ON api_tokens (name) WHERE revoked_at IS NULL;
COMMENT ON COLUMN api_tokens.sha256 IS 'Hash of the token, which has 256 random bits';
COMMENT ON COLUMN api_tokens.used_at IS 'Last use, to about a minute';

-- Every change made through API, panel or commands.
CREATE TABLE audit_log (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at         timestamptz NOT NULL DEFAULT clock_timestamp(),
    actor      text NOT NULL,
    action     text COLLATE "C" NOT NULL,
    subject    text COLLATE "C" NOT NULL,
    before     jsonb,
    after      jsonb,
    note       text NOT NULL DEFAULT ''
);
CREATE INDEX audit_log_by_subject ON audit_log (subject, id);
CREATE TRIGGER audit_log_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_log
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_rewriting();
COMMENT ON COLUMN audit_log.action IS 'noun.verb, as token.created';
COMMENT ON COLUMN audit_log.subject IS 'What was changed, as `token 3` or `badge nice_question`';
