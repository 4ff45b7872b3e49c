#!/usr/bin/env bash
# Creates each service's roles and database, or sets their passwords again. The services are those whose
# secrets are here; in development, those that have migrations, with one password for all.
# With ROLE, sets only that role's password, to the one on stdin. Where Postgres is elsewhere, DATABASE_URL names it.
set -euo pipefail
shopt -s nullglob

# The socket would lead to the temporary server of the first boot.
export PGHOST=${PGHOST:-127.0.0.1} PGUSER=${PGUSER:-postgres} PGDATABASE=postgres PGPASSWORD PGCONNECT_TIMEOUT=10
export SERVICE OWNER_PASSWORD APP_PASSWORD ROLE PASSWORD
PGPASSWORD=${POSTGRES_PASSWORD:-$(<"${POSTGRES_PASSWORD_FILE:-/dev/null}")}

# Terse, so that psql quotes no line of a statement with an error.
run() { psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --set VERBOSITY=terse --dbname "${DATABASE_URL:-postgres}" "$@"; }

if (($#)); then
    ROLE=$1 PASSWORD=$(cat)
    : "${PASSWORD:?is empty}"
    # For the superuser's own: an interrupted rotation may have set the password while the file has the former one.
    run --file /opt/slipway/postgres/password.sql || { [ "$ROLE" = postgres ] && PGPASSWORD=$PASSWORD run --command ''; }
    exit
fi

for path in /run/secrets/*_owner_password; do
    SERVICE=${path##*/}
    SERVICE=${SERVICE%_owner_password}
    OWNER_PASSWORD=$(<"$path") APP_PASSWORD=$(<"/run/secrets/${SERVICE}_password")
    : "${OWNER_PASSWORD:?is empty, see \`make doctor\`}" "${APP_PASSWORD:?is empty, see \`make doctor\`}"
    run --file /opt/slipway/postgres/roles.sql
done
# Whom the exporter of metrics logs in as; a Postgres elsewhere has none.
if [ -e /run/secrets/monitor_password ] && [ -z "${DATABASE_URL:-}" ]; then
    PASSWORD=$(</run/secrets/monitor_password)
    run --file /opt/slipway/postgres/monitor.sql
fi
for path in /services/*/migrations; do
    SERVICE=$(basename "$(dirname "$path")") OWNER_PASSWORD=$PGPASSWORD APP_PASSWORD=$PGPASSWORD
    run --file /opt/slipway/postgres/roles.sql
done
