"""What every service shares, in six groups; each imports only from those before it.

settings   a service's configuration
observe    what it shows of itself: logs, request ids, metrics, traces, errors, its version
db         Postgres: engine, bounded waits, migrations, revisions
server     gunicorn and uWSGI, their drain and their watchdog
web        what surrounds a Flask or ASGI app: errors, security, health, status, static files, OpenAPI
process    what a container runs: entrypoint, worker, heartbeat, probe, release
"""
