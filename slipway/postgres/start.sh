#!/bin/sh
# Starts the image on the data of its own major version, wherever an older release has put it. Beside another
# version's data it starts nothing: an empty database there would look as if every row were lost.
set -eu

volume=/var/lib/postgresql
export PGDATA="$volume/$PG_MAJOR/docker" # before 18 the image's own default lies outside of our volume
other=
for directory in "$PGDATA" "$volume" "$volume"/* "$volume"/*/docker; do
    [ -s "$directory/PG_VERSION" ] || continue
    read -r other <"$directory/PG_VERSION"
    if [ "$other" = "$PG_MAJOR" ]; then
        PGDATA=$directory
        exec docker-entrypoint.sh "$@"
    fi
done
if [ "$other" ]; then
    echo "The volume holds Postgres $other's data and this is $PG_MAJOR: nothing is started, nothing is lost." \
        "Run \`make upgrade-postgres\`; in development, drop the volume." >&2
    exit 1
fi
exec docker-entrypoint.sh "$@"
