-- Users who are to be folded again from the log, beside the live batches.

CREATE TABLE recompute_queue (
    user_id   text COLLATE "C" PRIMARY KEY,
    version   integer NOT NULL,
    queued_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE recompute_queue IS 'Users whose log is too long to be read again while a partition waits';
COMMENT ON COLUMN recompute_queue.version IS 'The version of the catalog for which the user was built until then';
