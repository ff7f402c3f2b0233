"""badgestream: domain events in from Kafka, badges out, each exactly once."""
