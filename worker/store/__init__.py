"""The door to PostgreSQL: the only room that speaks SQL.

`pool` opens it, `failures` translates what goes wrong, `migrate` makes the schema, `postgres` is the store the pipeline
and the relay ask, `memory` a verified fake that passes the same contract tests.
"""
