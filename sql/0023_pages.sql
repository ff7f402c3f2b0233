-- What pages of the panel read: each list in the order of an index, each count from an index alone.

-- Logs of a few rows a minute at most: writers wait for seconds, once.
-- squawk-ignore require-concurrent-index-creation
CREATE INDEX job_runs_by_tick ON job_runs (tick, job);
-- squawk-ignore changing-column-type
ALTER TABLE audit_log ALTER COLUMN actor TYPE text COLLATE "C";
-- squawk-ignore require-concurrent-index-creation
CREATE INDEX audit_log_by_actor ON audit_log (actor, id) INCLUDE (action);
-- squawk-ignore require-concurrent-index-creation
CREATE INDEX audit_log_by_action ON audit_log (action, id);

-- Dead letters are looked through by number, and by reason and number, without reading them.
-- squawk-ignore require-concurrent-index-creation
CREATE INDEX dead_letters_by_number ON dead_letters (number) INCLUDE (reason, topic, buried_at);
-- squawk-ignore require-concurrent-index-creation
CREATE INDEX dead_letters_by_reason_and_number ON dead_letters (reason, number) INCLUDE (topic, buried_at);
-- squawk-ignore require-concurrent-index-deletion
DROP INDEX dead_letters_by_reason;

-- squawk-ignore require-concurrent-index-creation
CREATE INDEX withheld_awards_by_badge ON withheld_awards (badge_key, withheld_at) WHERE state = 'held';
