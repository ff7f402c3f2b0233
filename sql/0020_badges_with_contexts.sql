-- Which badges were ever given with a context. Of all others a user's first award is known without the user's whole
-- log: it is the only one, as long as none was taken back.
ALTER TABLE badge_holders ADD COLUMN with_contexts boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN badge_holders.with_contexts IS 'Whether by the end of the day the badge was ever given with a context';
UPDATE badge_holders SET with_contexts = true
WHERE badge_key IN (SELECT badge_key FROM badge_awards_log WHERE context <> '');
