-- What the HTTP API says of the catalog's entries and of the awards as they come.

-- Condition types have ids as badges and event types have.
CREATE TABLE condition_types (
    name            text COLLATE "C" PRIMARY KEY,
    id              integer GENERATED ALWAYS AS IDENTITY UNIQUE,
    catalog_version integer NOT NULL,
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now()
);
COMMENT ON COLUMN condition_types.id IS 'Given once and never again to another name';
INSERT INTO condition_types (name, catalog_version)
SELECT entry ->> 'name', v.version
FROM catalog_head h
JOIN catalog_versions v USING (version)
CROSS JOIN LATERAL json_array_elements(
    CASE WHEN json_typeof(v.document -> 'condition_types') = 'array' THEN v.document -> 'condition_types' ELSE '[]' END
) WITH ORDINALITY AS e (entry, place)
ORDER BY place;

-- A badge's criteria change at other times than its looks.
ALTER TABLE badges ADD COLUMN criteria_updated_at timestamptz NOT NULL DEFAULT now();
UPDATE badges SET criteria_updated_at = updated_at;

-- The feed reads the log in the order in which it was written. Rows of one batch share an instant, so the index stays
-- small, and each goes to its end.
-- squawk-ignore require-concurrent-index-creation
CREATE INDEX badge_awards_log_by_time ON badge_awards_log (logged_at);
