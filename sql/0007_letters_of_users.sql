-- A user's dead letters are found by the user in them, or by the record's key where no user could be read. Keys may be
-- longer than an index takes: their hashes are not. The table is locked meanwhile; dead letters are few beside events.
-- squawk-ignore require-concurrent-index-creation
CREATE INDEX dead_letters_by_user ON dead_letters (user_id, number) WHERE user_id IS NOT NULL;
-- squawk-ignore require-concurrent-index-creation
CREATE INDEX dead_letters_by_key ON dead_letters (sha256(key)) WHERE user_id IS NULL;
