-- Kept free for the state as a checkpoint of the log; nothing to do yet.
SELECT 1;
