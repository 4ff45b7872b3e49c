"""What every service shares, in six groups; each imports only from those before it.

settings   what a service can be told
observe    what is seen of it: logs, request ids, metrics, its version
db         Postgres: engine, bounded waits, migrations, revisions
server     gunicorn, its drain and its watchdog
web        a Flask app's surroundings: errors, security, health, status, static files, OpenAPI; an ASGI app's too
process    what a container runs: entrypoint, worker, heartbeat, probe, release
"""
