-- Requests that may come again: what an Idempotency-Key was first used for. No row names a user.
CREATE TABLE idempotent_requests (
    name        bytea PRIMARY KEY,
    body        bytea NOT NULL,
    occurred_at timestamptz NOT NULL,
    at          timestamptz NOT NULL DEFAULT now()
) WITH (autovacuum_vacuum_scale_factor = 0.02);
CREATE INDEX idempotent_requests_by_age ON idempotent_requests (at);
COMMENT ON COLUMN idempotent_requests.name IS 'sha256 of the event''s user, source and id';
COMMENT ON COLUMN idempotent_requests.body IS 'sha256 of the request''s body';
COMMENT ON COLUMN idempotent_requests.occurred_at IS 'When an event without an instant happened: when it first came';
