#!/bin/sh
# Run by the image once, when the volume is new. Passwords come from secret files in production and
# from the environment in development.
set -eu

SERVICE=web
OWNER_PASSWORD=${OWNER_PASSWORD:-$(cat "$OWNER_PASSWORD_FILE")}
APP_PASSWORD=${APP_PASSWORD:-$(cat "$APP_PASSWORD_FILE")}
export SERVICE OWNER_PASSWORD APP_PASSWORD

psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --username postgres --file /opt/postgres/roles.sql
