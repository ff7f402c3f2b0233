-- Memories of local days have another identity from here on, and tenures another form: users are folded again from their
-- logs, by their next event or by the build of the catalog, which begins anew.
UPDATE users SET built_version = NULL, state = NULL, newest_at = NULL, newest_source = NULL, newest_id = NULL;
DELETE FROM user_scopes;
DELETE FROM catalog_builds;
