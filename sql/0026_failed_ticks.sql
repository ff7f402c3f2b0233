-- How often a tick of a job failed: the longer it rests before it is tried again, whichever replica does.
ALTER TABLE job_runs ADD COLUMN failures integer NOT NULL DEFAULT 0;
COMMENT ON COLUMN job_runs.failures IS 'How often it failed and was not done since';
UPDATE job_runs SET failures = 1 WHERE outcome = 'failed';
