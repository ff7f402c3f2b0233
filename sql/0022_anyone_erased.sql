-- Whether anybody is erased by now: being volatile it sees what was committed while the statement that calls it waited
-- for locks, which that statement itself does not.
CREATE FUNCTION anyone_erased() RETURNS boolean LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    RETURN EXISTS (SELECT 1 FROM erased_users);
END
$$;
