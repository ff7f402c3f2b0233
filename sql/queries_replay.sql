-- name: begin_replay
-- Make the rows of a replay's partitions where they are missing, with the incarnation under which the group itself reads
-- them: ids derived from coordinates must come out the same.
INSERT INTO partitions (group_id, topic, partition, next_offset, incarnation)
SELECT $1, w.topic, w.partition, w.start, coalesce(p.incarnation, 1)
FROM unnest($3::text[], $4::integer[], $5::bigint[]) AS w (topic, partition, start)
LEFT JOIN partitions p ON p.group_id = $2 AND p.topic = w.topic AND p.partition = w.partition
ON CONFLICT DO NOTHING;

-- name: replay_positions
-- How far each partition of a replay is.
SELECT topic, partition, next_offset FROM partitions WHERE group_id = $1;

-- name: end_replay
-- Remove the rows of a replay.
DELETE FROM partitions WHERE group_id = $1;

-- name: forget_replay_gaps
-- Remove the holes that a replay met: the group itself has written them down, or will.
DELETE FROM stream_gaps WHERE group_id = $1;
