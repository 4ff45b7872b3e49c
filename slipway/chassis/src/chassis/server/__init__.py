"""gunicorn or uWSGI, set up by one call, and what they lack: a drain, a watchdog for hung requests, logs as JSON."""
