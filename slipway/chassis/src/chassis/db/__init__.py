"""Postgres: an engine whose every wait is bounded, migrations under a lock, and which revision the code needs."""
