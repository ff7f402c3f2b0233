-- name: waiting_letters
-- Dead letters that were not applied yet, whole, the oldest first, from one number to another: of a reason, of a topic,
-- of a type, since an instant, at places.
SELECT number, topic, partition, "offset", incarnation, reason, detail, path, user_id, length, recorded_at, buried_at,
       state, key, raw, sha256, headers
FROM dead_letters
WHERE number > $1 AND number <= $2 AND state = 'new'
  AND ($4::text IS NULL OR reason = $4) AND ($5::text IS NULL OR topic = $5)
  AND ($6::timestamptz IS NULL OR buried_at >= $6) AND ($10::text IS NULL OR said_type = $10)
  AND ($7::text[] IS NULL
       OR (topic, partition, "offset") IN (SELECT * FROM unnest($7, $8::integer[], $9::bigint[])))
ORDER BY number
LIMIT $3;

-- name: count_waiting_letters
-- How many there are, and the number of the newest.
SELECT count(*) AS letters, max(number) AS newest
FROM dead_letters
WHERE state = 'new'
  AND ($1::text IS NULL OR reason = $1) AND ($2::text IS NULL OR topic = $2)
  AND ($3::timestamptz IS NULL OR buried_at >= $3) AND ($7::text IS NULL OR said_type = $7)
  AND ($4::text[] IS NULL
       OR (topic, partition, "offset") IN (SELECT * FROM unnest($4, $5::integer[], $6::bigint[])));

-- name: letters_passed
-- Note dead letters as applied after all.
UPDATE dead_letters SET state = 'replayed', attempts = attempts + 1, tried_at = clock_timestamp()
WHERE number = ANY ($1::bigint[]);

-- name: letters_kept
-- Note dead letters as tried in vain, with the reason they have now.
UPDATE dead_letters d
SET reason = k.reason, detail = k.detail, path = k.path, user_id = k.user_id, attempts = d.attempts + 1,
    tried_at = clock_timestamp()
FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::text[]) AS k (number, reason, detail, path, user_id)
WHERE d.number = k.number;
