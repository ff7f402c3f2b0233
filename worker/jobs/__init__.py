"""The clock in: jobs that run once per tick however many replicas run, and what they do."""
