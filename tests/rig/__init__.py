"""The services tests run against: found, started, reset between tests, stopped."""
