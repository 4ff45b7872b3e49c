#!/usr/bin/env bash
# Makes each service's roles and database, or sets their passwords anew. The services are those whose
# secrets are here; in development those that have migrations, with one password for all.
set -euo pipefail
shopt -s nullglob

export PGUSER=postgres PGPASSWORD PGCONNECT_TIMEOUT=10 SERVICE OWNER_PASSWORD APP_PASSWORD
PGPASSWORD=${POSTGRES_PASSWORD:-$(<"${POSTGRES_PASSWORD_FILE:-/dev/null}")}

make_roles() { psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --dbname postgres --file /opt/postgres/roles.sql; }

for path in /run/secrets/*_owner_password; do
    SERVICE=${path##*/}
    SERVICE=${SERVICE%_owner_password}
    OWNER_PASSWORD=$(<"$path") APP_PASSWORD=$(<"/run/secrets/${SERVICE}_password")
    make_roles
done
for path in /services/*/migrations; do
    SERVICE=$(basename "$(dirname "$path")") OWNER_PASSWORD=$PGPASSWORD APP_PASSWORD=$PGPASSWORD
    make_roles
done
