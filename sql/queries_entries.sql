-- Ids and times of the catalog's entries, and how many hold its badges.

-- name: reserve_badge_id
-- An id for a badge that does not exist yet; it is used up even where the badge never comes to be.
SELECT nextval(pg_get_serial_sequence('badges', 'id'))::integer AS id;

-- name: insert_reserved_badge
-- Give a badge that has no id the one that was reserved for it.
INSERT INTO badges (key, id, kind, family, label, description, tier, sort_score, status, catalog_version)
OVERRIDING SYSTEM VALUE
SELECT $1, $2, '', '', '', '', NULL, 0, '', $3
WHERE NOT EXISTS (SELECT 1 FROM badges WHERE key = $1);

-- name: insert_condition_types
-- Give ids to condition types that have none.
INSERT INTO condition_types (name, catalog_version)
SELECT name, $2 FROM unnest($1::text[]) WITH ORDINALITY AS t (name, place)
WHERE NOT EXISTS (SELECT 1 FROM condition_types k WHERE k.name = t.name)
ORDER BY place;

-- name: touch_badges
-- Badges whose entry is not as it was.
UPDATE badges SET updated_at = now() WHERE key = ANY ($1::text[]);

-- name: touch_criteria
-- Badges that ask something else than they did.
UPDATE badges SET criteria_updated_at = now() WHERE key = ANY ($1::text[]);

-- name: touch_event_types
-- Event types whose entry is not as it was.
UPDATE event_types SET updated_at = now(), catalog_version = $2 WHERE name = ANY ($1::text[]);

-- name: touch_condition_types
-- Condition types whose entry is not as it was.
UPDATE condition_types SET updated_at = now(), catalog_version = $2 WHERE name = ANY ($1::text[]);

-- name: badge_rows
-- Every badge that ever was one.
SELECT key, id, label, description, family, tier, sort_score, status, created_at, updated_at, criteria_updated_at
FROM badges ORDER BY id;

-- name: event_type_rows
-- Every event type that ever was one.
SELECT name, id, created_at, updated_at FROM event_types ORDER BY id;

-- name: condition_type_rows
-- Every condition type that ever was one.
SELECT name, id, created_at, updated_at FROM condition_types ORDER BY id;

-- name: holder_counts
-- How many hold each badge, as last counted.
SELECT key, users_with_badge FROM badges WHERE $1::text[] IS NULL OR key = ANY ($1::text[]);
