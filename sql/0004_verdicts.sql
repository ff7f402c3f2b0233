-- What the conditions in JavaScript said of an event stays with it: replay, rebuild and recompute read it.
ALTER TABLE events ADD COLUMN verdicts jsonb;
COMMENT ON COLUMN events.verdicts IS
    'Hash of a condition to yes, no or error (a fault, which is no match); null where none was asked';
