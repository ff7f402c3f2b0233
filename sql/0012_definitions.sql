-- Which test a badge had from which version of the catalog on: with its version, an award names its definition. Versions
-- from before this table have none.
CREATE TABLE badge_definitions (
    badge_key text COLLATE "C" NOT NULL,
    version   integer NOT NULL REFERENCES catalog_versions (version) ON DELETE CASCADE,
    hash      text COLLATE "C" NOT NULL,
    PRIMARY KEY (badge_key, version)
);
COMMENT ON TABLE badge_definitions IS 'An award was given by the definition of the newest version that is not above its own';
