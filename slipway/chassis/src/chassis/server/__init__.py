"""gunicorn, set up by one call, and what it lacks: a drain, a watchdog for hung requests, logs as JSON."""
