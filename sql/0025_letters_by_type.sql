-- Dead letters are chosen by the type their records say they are of: read once, where the whole record is at hand.
ALTER TABLE dead_letters ADD COLUMN said_type text COLLATE "C";
COMMENT ON COLUMN dead_letters.said_type IS
    'The type that the record says it is of, whatever is wrong with it; null where it says none';

-- Of letters that lie there already the first 64 KiB are looked into. Bytes that are no text, and what is no string of
-- JSON, say no type.
CREATE FUNCTION pg_temp.said_type(raw bytea) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    said text;
BEGIN
    BEGIN
        SELECT given #>> '{}' INTO said
        FROM (SELECT convert_from(raw, 'UTF8')::jsonb AS body) AS whole,
             coalesce(nullif(body -> 'type', 'null'), body -> 'event_type') AS given
        WHERE jsonb_typeof(given) = 'string';
    EXCEPTION WHEN data_exception OR statement_too_complex THEN
        said := substring(encode(raw, 'escape') FROM '"(?:type|event_type)"\s*:\s*("(?:[^"\\]|\\.)+")');
        said := convert_from(decode(said, 'escape'), 'UTF8')::jsonb #>> '{}';
    END;
    RETURN CASE WHEN length(said) BETWEEN 1 AND 200 THEN said END;
EXCEPTION WHEN data_exception OR statement_too_complex THEN
    RETURN NULL;
END
$$;
UPDATE dead_letters SET said_type = pg_temp.said_type(raw) WHERE raw IS NOT NULL;
-- squawk-ignore ban-drop-function
DROP FUNCTION pg_temp.said_type(bytea);

-- squawk-ignore require-concurrent-index-creation
CREATE INDEX dead_letters_by_type ON dead_letters (said_type, number) INCLUDE (reason, topic, buried_at)
    WHERE said_type IS NOT NULL;
-- squawk-ignore require-concurrent-index-deletion
DROP INDEX dead_letters_by_number;
-- squawk-ignore require-concurrent-index-creation
CREATE INDEX dead_letters_by_number ON dead_letters (number) INCLUDE (reason, topic, buried_at, said_type);
