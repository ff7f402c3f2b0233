-- Why a condition was not asked about an event stays with the event, so that explanations can say it.
COMMENT ON COLUMN events.verdicts IS
    'Hash of a condition to yes, no, error (a fault) or parked (not asked: the type fails for all); only yes is a match; null where none was asked';
