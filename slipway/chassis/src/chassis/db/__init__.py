"""Postgres: an engine that bounds every wait, migrations under a lock, and the revision that the code needs."""
