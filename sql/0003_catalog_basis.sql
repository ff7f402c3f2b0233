-- What a version of the catalog asks of the users' memories, and what people read in the list of versions.

ALTER TABLE catalog_versions
    ADD COLUMN basis   integer,
    ADD COLUMN badges  integer,
    ADD COLUMN changes text NOT NULL DEFAULT '',
    ADD COLUMN note    text NOT NULL DEFAULT '';
COMMENT ON COLUMN catalog_versions.basis IS
    'The version whose memories and tests this one still uses; its own number (or null) where users must be built';
COMMENT ON COLUMN catalog_versions.badges IS 'How many badges it has; null for versions from before this column';
COMMENT ON COLUMN catalog_versions.changes IS 'What it changed, in words';
