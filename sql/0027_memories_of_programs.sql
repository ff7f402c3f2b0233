-- By which identities users' memories were built, and by which program: another one that names a memory otherwise would
-- find none and count from nothing.
ALTER TABLE catalog_versions
    ADD COLUMN memories text COLLATE "C",
    ADD COLUMN program  text;
COMMENT ON COLUMN catalog_versions.memories IS
    'A hash of the identities of all memories its badges look at; null until a worker takes up what was not applied by one';
COMMENT ON COLUMN catalog_versions.program IS 'The program that named them: its version and that of the holiday calendars';

-- Nobody knows how memories of before are named: workers build them anew once, but where retention has removed events.
UPDATE catalog_versions SET memories = '', program = 'a badgestream of before'
WHERE NOT EXISTS (SELECT 1 FROM retention_floors);
