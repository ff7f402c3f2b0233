-- ================================================================ tokens of the API

-- name: insert_token
-- A new token; nothing where a live one has its name.
INSERT INTO api_tokens (name, role, sha256, created_by) VALUES ($1, $2, $3, $4)
ON CONFLICT (name) WHERE revoked_at IS NULL DO NOTHING
RETURNING id;

-- name: live_tokens
-- All tokens that may be used, with the hashes they are known by.
SELECT id, name, role, sha256 FROM api_tokens WHERE revoked_at IS NULL;

-- name: any_token
-- Whether a token was ever created.
SELECT EXISTS (SELECT 1 FROM api_tokens) AS found;

-- name: list_tokens
-- All tokens, the live ones first, then by age.
SELECT id, name, role, created_at, created_by, used_at, revoked_at
FROM api_tokens ORDER BY revoked_at IS NOT NULL, id;

-- name: revoke_token
-- Ends a token, by its number or by the name of a live one.
UPDATE api_tokens SET revoked_at = now()
WHERE revoked_at IS NULL AND (id = $1 OR name = $2)
RETURNING id, name, role;

-- name: touch_tokens
-- Notes that tokens were used.
UPDATE api_tokens SET used_at = now() WHERE id = ANY ($1::bigint[]);

-- ================================================================ the audit log

-- name: insert_audit
-- One change.
INSERT INTO audit_log (actor, action, subject, before, after, note)
VALUES ($1, $2, $3, $4::text::jsonb, $5::text::jsonb, $6);

-- name: insert_audit_sent
-- One change that was sent after all, where the last word of the same act is that it was not.
INSERT INTO audit_log (actor, action, subject, before, after, note)
SELECT $1, $2 || '.sent', $3, $4::text::jsonb, $5::text::jsonb, $6
WHERE $2 || '.unsent' = (
    SELECT action FROM audit_log
    WHERE subject = $3 AND actor = $1 AND action IN ($2, $2 || '.unsent', $2 || '.sent')
      AND after IS NOT DISTINCT FROM $5::text::jsonb
    ORDER BY subject DESC, id DESC LIMIT 1
);

-- name: list_audit
-- Changes, newest first, before a number (for the next page).
SELECT id, at, actor, action, subject, before::text AS before, after::text AS after, note
FROM audit_log WHERE id < $1 ORDER BY id DESC LIMIT $2;

-- name: list_audit_of_actor
-- The same of one actor, and of one action where it is given: so many of the actor's newest are looked at, in an index.
SELECT a.id, a.at, a.actor, a.action, a.subject, a.before::text AS before, a.after::text AS after, a.note
FROM (
    SELECT id FROM (
        SELECT id, action FROM audit_log WHERE actor = $1 AND id < $3 ORDER BY actor DESC, id DESC LIMIT $5
    ) AS newest
    WHERE $2::text IS NULL OR action = $2
    ORDER BY id DESC
    LIMIT $4
) AS found
JOIN audit_log a ON a.id = found.id
ORDER BY a.id DESC;

-- name: list_audit_of_action
-- The same of one action.
SELECT id, at, actor, action, subject, before::text AS before, after::text AS after, note
FROM audit_log WHERE action = $1 AND id < $2 ORDER BY action DESC, id DESC LIMIT $3;

-- name: list_audit_of_subject
-- The same of what was changed, and of one actor and one action where they are given.
SELECT id, at, actor, action, subject, before::text AS before, after::text AS after, note
FROM (SELECT * FROM audit_log WHERE subject = $1 AND id < $4 ORDER BY subject DESC, id DESC LIMIT $6) AS newest
WHERE ($2::text IS NULL OR actor = $2) AND ($3::text IS NULL OR action = $3)
ORDER BY id DESC
LIMIT $5;


-- ================================================================ sessions of the panel

-- name: end_session
-- Notes that a session is over.
INSERT INTO ended_sessions (sha256) VALUES ($1) ON CONFLICT DO NOTHING;

-- name: ended_sessions
-- The newest sessions that were ended within some seconds.
SELECT sha256 FROM ended_sessions WHERE ended_at > now() - make_interval(secs => $1) ORDER BY ended_at DESC LIMIT $2;

-- name: forget_sessions
-- Those that would be over by themselves by now.
DELETE FROM ended_sessions WHERE ended_at < now() - make_interval(secs => $1);
