-- Scheduled jobs: their runs.

-- name: last_runs
-- Of each job the newest tick, the newest that is done, those that were begun and are not done, and those that failed:
-- how often, and how many microseconds ago. Of jobs of which only the newest counts nothing before what is done.
SELECT j.job,
       (SELECT tick FROM job_runs WHERE job = j.job ORDER BY tick DESC LIMIT 1) AS newest,
       d.tick AS done,
       ARRAY(
           SELECT tick FROM job_runs
           WHERE job = j.job AND outcome IN ('running', 'waiting') AND tick > least_due
           ORDER BY tick
       ) AS unfinished,
       f.failed,
       f.failures,
       f.ago
FROM unnest($1::text[], $2::boolean[]) AS j (job, only_newest)
LEFT JOIN LATERAL (
    SELECT tick FROM job_runs WHERE job = j.job AND outcome = 'done' ORDER BY tick DESC LIMIT 1
) AS d ON true
CROSS JOIN LATERAL (
    SELECT CASE WHEN j.only_newest THEN coalesce(d.tick, '-infinity') ELSE '-infinity' END AS least_due
) AS bound
CROSS JOIN LATERAL (
    SELECT coalesce(array_agg(tick ORDER BY tick), '{}') AS failed,
           coalesce(array_agg(failures ORDER BY tick), '{}') AS failures,
           coalesce(array_agg((extract(epoch FROM clock_timestamp() - finished_at) * 1000000)::bigint ORDER BY tick),
                    '{}') AS ago
    FROM job_runs WHERE job = j.job AND outcome = 'failed' AND tick > least_due
) AS f;

-- name: begin_run
-- Write that a tick runs, under the job's lease; a tick that is done runs only where that is asked for.
INSERT INTO job_runs AS r (job, tick, token, owner)
SELECT $1, $2, l.token, $4 FROM leases l WHERE l.name = 'job:' || $1 AND l.token = $3 FOR SHARE
ON CONFLICT (job, tick) DO UPDATE
SET outcome = 'running', token = excluded.token, owner = excluded.owner, attempts = r.attempts + 1, note = '',
    progress = CASE WHEN r.outcome = 'done' THEN '' ELSE r.progress END,
    started_at = clock_timestamp(), finished_at = NULL
WHERE $5 OR r.outcome <> 'done'
RETURNING progress;

-- name: mark_run
-- Note how far a run is.
UPDATE job_runs SET progress = $4 WHERE job = $1 AND tick = $2 AND token = $3 AND outcome = 'running';

-- name: end_run
-- Write what came of a run.
UPDATE job_runs
SET outcome = $4, figures = $5::text::jsonb, note = $6, finished_at = clock_timestamp(),
    progress = CASE WHEN $4 = 'done' THEN '' ELSE progress END,
    failures = CASE $4 WHEN 'failed' THEN failures + 1 WHEN 'done' THEN 0 ELSE failures END
WHERE job = $1 AND tick = $2 AND token = $3 AND outcome = 'running';

-- name: skip_run
-- Write that a tick was left out.
INSERT INTO job_runs (job, tick, token, outcome, note, finished_at)
VALUES ($1, $2, $3, 'skipped', $4, clock_timestamp())
ON CONFLICT DO NOTHING;

-- name: job_runs
-- Runs of all jobs, newest first, before an instant (for the next page).
SELECT job, tick AS tick_us, outcome, owner, attempts, figures::text AS figures, note, started_at AS started_us,
       finished_at AS finished_us
FROM job_runs WHERE tick < $1 ORDER BY tick DESC, job DESC LIMIT $2;

-- name: job_runs_of
-- The same of one job.
SELECT job, tick AS tick_us, outcome, owner, attempts, figures::text AS figures, note, started_at AS started_us,
       finished_at AS finished_us
FROM job_runs WHERE job = $1 AND tick < $2 ORDER BY job DESC, tick DESC LIMIT $3;

-- name: newest_runs
-- The newest run of each job.
WITH RECURSIVE jobs AS (
    SELECT min(job) AS job FROM job_runs
    UNION ALL
    SELECT (SELECT min(job) FROM job_runs WHERE job > jobs.job) FROM jobs WHERE jobs.job IS NOT NULL
)
SELECT r.job, r.tick AS tick_us, r.outcome, r.owner, r.attempts, r.figures::text AS figures, r.note,
       r.started_at AS started_us, r.finished_at AS finished_us
FROM jobs j
CROSS JOIN LATERAL (SELECT * FROM job_runs WHERE job = j.job ORDER BY tick DESC LIMIT 1) AS r
ORDER BY r.tick DESC, r.job;

-- name: last_successes
-- Of each of these jobs the newest tick that is done.
SELECT r.job, r.tick AS tick_us, r.outcome, r.owner, r.attempts, r.figures::text AS figures, r.note,
       r.started_at AS started_us, r.finished_at AS finished_us
FROM unnest($1::text[]) AS j (job)
CROSS JOIN LATERAL (
    SELECT * FROM job_runs WHERE job = j.job AND outcome = 'done' ORDER BY tick DESC LIMIT 1
) AS r;

-- name: prune_job_runs
-- Remove rows of ticks before an instant that need nothing more, at most so many; each job keeps its newest. Of jobs of
-- which only the newest counts, ticks before one that is done need nothing more, whatever came of them.
DELETE FROM job_runs WHERE (job, tick) IN (
    SELECT job, tick FROM job_runs r
    WHERE tick < $1 AND (outcome IN ('done', 'skipped') OR job = ANY ($3::text[]))
      AND EXISTS (SELECT 1 FROM job_runs n WHERE n.job = r.job AND n.tick > r.tick AND n.outcome = 'done')
    LIMIT $2
);
