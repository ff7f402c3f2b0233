-- ================================================================ events sent over HTTP

-- name: first_request
-- What a key was first used for: this request (made), or an earlier one.
INSERT INTO idempotent_requests AS r (name, body, occurred_at) VALUES ($1, $2, $3)
ON CONFLICT (name) DO UPDATE SET at = r.at
RETURNING body, occurred_at, xmax = 0 AS made;

-- name: forget_requests
-- Requests that came so long ago that nobody sends them again.
DELETE FROM idempotent_requests WHERE at < now() - make_interval(days => $1);

-- name: logged_events
-- Those of some events that are logged.
SELECT e.user_id, e.source, e.id
FROM unnest($1::text[], $2::text[], $3::text[]) AS w (user_id, source, id)
JOIN events e ON e.user_id = w.user_id AND e.source = w.source AND e.id = w.id;

-- name: awards_by_event
-- What a user holds that one event earned.
SELECT badge_key, context, awarded_at, origin
FROM user_badges WHERE user_id = $1 AND trigger_id = $2
ORDER BY sequence;
