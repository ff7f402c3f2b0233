-- Long work over users, asked for by a person or by the clock: one row each, moved on with every slice of users.

CREATE TABLE user_jobs (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind         text COLLATE "C" NOT NULL CHECK (kind IN ('backfill', 'recompute', 'sweep')),
    parameters   jsonb NOT NULL DEFAULT '{}',
    state        text COLLATE "C" NOT NULL DEFAULT 'waiting'
                 CHECK (state IN ('waiting', 'running', 'done', 'cancelled', 'failed')),
    after        text COLLATE "C" NOT NULL DEFAULT '',
    users_done   bigint NOT NULL DEFAULT 0,
    users_total  bigint NOT NULL DEFAULT 0,
    events       bigint NOT NULL DEFAULT 0,
    awards       bigint NOT NULL DEFAULT 0,
    changes      jsonb NOT NULL DEFAULT '{}',
    requested_by text NOT NULL DEFAULT '',
    requested_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    started_at   timestamptz,
    moved_at     timestamptz,
    done_at      timestamptz,
    note         text NOT NULL DEFAULT '',
    driver       text,
    leased_until timestamptz
);
CREATE INDEX user_jobs_open ON user_jobs (id) WHERE state IN ('waiting', 'running');
COMMENT ON TABLE user_jobs IS 'Backfills, recomputes and sweeps: how far each is, and what it found';
COMMENT ON COLUMN user_jobs.after IS 'Users up to this one are done; moved in the transaction that did them';
COMMENT ON COLUMN user_jobs.awards IS 'Awards granted or put back';
COMMENT ON COLUMN user_jobs.changes IS 'What was found: counts by kind, and by badge under "badges"';
COMMENT ON COLUMN user_jobs.driver IS 'Who does its slices until leased_until; afterwards whoever comes';
