-- Scheduled jobs: which tick of which job was run, and what came of it.

CREATE TABLE job_runs (
    job         text COLLATE "C" NOT NULL,
    tick        timestamptz NOT NULL,
    outcome     text COLLATE "C" NOT NULL DEFAULT 'running'
                CHECK (outcome IN ('running', 'done', 'waiting', 'failed', 'skipped')),
    token       uuid NOT NULL,
    owner       text NOT NULL DEFAULT '',
    attempts    integer NOT NULL DEFAULT 1,
    progress    text NOT NULL DEFAULT '',
    figures     jsonb NOT NULL DEFAULT '{}',
    note        text NOT NULL DEFAULT '',
    started_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    finished_at timestamptz,
    PRIMARY KEY (job, tick)
);
CREATE INDEX job_runs_unfinished ON job_runs (job, tick) WHERE outcome IN ('running', 'waiting', 'failed');
COMMENT ON TABLE job_runs IS 'One row for each tick of each job: its key is what makes a tick run once';
COMMENT ON COLUMN job_runs.outcome IS 'waiting: a service was away, it is tried again; skipped: missed for too long';
COMMENT ON COLUMN job_runs.token IS 'The lease under which it was begun; only that lease writes what came of it';
COMMENT ON COLUMN job_runs.progress IS 'How far a run was: one that takes over from it goes on there';
COMMENT ON COLUMN job_runs.figures IS 'users, events, awards, counts, seconds; what is zero is left out';
