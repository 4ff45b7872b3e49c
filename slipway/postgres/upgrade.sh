#!/usr/bin/env bash
# The steps of `make upgrade-postgres` (slipway/commands/upgrade_postgres.py, which gives their order) inside containers: `freeze`
# beside the old server, the others in a container of the new image that has the same volume.
#
#   found                the major versions whose data the volume holds, one a line
#   freeze               makes the old server refuse writes for as long as stdin stays open
#   check                fails unless all data can be copied and has space; prints the old version and the new
#   schema               copies all but the rows to a temporary cluster; exits with 3 if a statement is refused
#   create               creates an empty cluster, unfinished, in a place that only this script uses
#   roles, databases     copies them from the old server, with the new version's own tools
#   analyze              collects statistics, so that no query is planned without them
#   compare              fails unless both hold the same; prints the tables and the rows
#   finish               stops the new server, with all data on the disk
#   adopt, discard       puts the new cluster in its final place, and takes it away again
#   forget MAJOR         removes a former version's data, once the new one has taken its place
set -euo pipefail
shopt -s nullglob

VOLUME=/var/lib/postgresql
PLACE=$VOLUME/$PG_MAJOR/docker UNFINISHED=$VOLUME/$PG_MAJOR/unfinished
OLD=db NEW=/var/run/postgresql # the service's name in the network; our own socket
TIMEOUT=10                    # seconds for transactions that are open when writes end

export PGUSER=postgres PGCONNECT_TIMEOUT=10 PGPASSWORD
PGPASSWORD=$(<"$POSTGRES_PASSWORD_FILE")

die() { echo "$*" >&2; exit 1; }
sql() { # HOST DATABASE [OPTION...]
    PGHOST=$1 psql --no-psqlrc --quiet --no-align --tuples-only --set ON_ERROR_STOP=1 --dbname "$2" "${@:3}"
}

found() {
    local file
    for file in "$VOLUME"{,/*,/*/docker}/PG_VERSION; do echo "$(<"$file") ${file%/PG_VERSION}"; done | sort -nu
}

# Uses the configuration, so that no session escapes, and resets it in the file at once, so that nothing is left
# after a crash. A session reads the file again only when told to, so all sessions that began before have to end.
freeze() {
    OLD=127.0.0.1
    trap 'sql "$OLD" postgres --command "ALTER SYSTEM RESET default_transaction_read_only" \
        --command "SELECT pg_reload_conf()" >/dev/null' EXIT
    sql "$OLD" postgres --command "ALTER SYSTEM SET default_transaction_read_only = on" \
        --command "SELECT pg_reload_conf()" >/dev/null
    until frozen; do sleep 0.05; done
    local began deadline=$((SECONDS + TIMEOUT)) condition="AND state = 'idle'"
    began=$(sql "$OLD" postgres --command "SELECT clock_timestamp()")
    until sql "$OLD" postgres --set began="$began" <<SQL | grep -qx 0; do
SELECT count(pg_terminate_backend(pid)) AS ended FROM pg_stat_activity
WHERE backend_type = 'client backend' AND backend_start < :'began' $condition \gset
SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND backend_start < :'began';
SQL
        [ $SECONDS -lt $deadline ] || condition=
        sleep 0.05
    done
    sql "$OLD" postgres --command "ALTER SYSTEM RESET default_transaction_read_only"
    echo frozen
    cat >/dev/null
}

frozen() { [ "$(sql "$OLD" postgres --command "SHOW default_transaction_read_only")" = on ]; }

check() {
    [ -z "$(sql "$OLD" postgres --command "SELECT FROM pg_tablespace WHERE spcname !~ '^pg_'")" ] \
        || die "there are tablespaces outside of the volume, which can't be carried over: move their tables back"
    local need free
    need=$(sql "$OLD" postgres --command "SELECT ceil(sum(pg_database_size(oid)) * 1.2 / 1e6) + 200 FROM pg_database")
    free=$(($(df --output=avail --block-size=1 "$VOLUME" | tail -n 1) / 1000000))
    [ "$free" -ge "$need" ] || die "the volume's disk has $free MB free, and the copy may need $need MB"
    echo "$(sql "$OLD" postgres --command "SHOW server_version" | cut -d ' ' -f 1)" \
        "$(postgres --version | cut -d ' ' -f 3)"
}

schema() {
    trap 'pg_ctl --pgdata "$UNFINISHED" --silent --mode immediate stop 2>/dev/null || true; rm -rf "$UNFINISHED"' EXIT
    create
    roles
    databases --schema-only
}

# Without fsync: what a crash leaves is thrown away, and `finish` flushes all of it at once.
create() {
    rm -rf "$UNFINISHED"
    # eval, because the arguments may hold quoted words
    eval "initdb --pgdata '$UNFINISHED' --username postgres --data-checksums --no-sync $POSTGRES_INITDB_ARGS" \
        '--pwfile=<(echo "$PGPASSWORD")' >/dev/null
    echo 'host all all all scram-sha-256' >>"$UNFINISHED/pg_hba.conf"
    pg_ctl --pgdata "$UNFINISHED" --wait --silent --log /tmp/new.log start \
        --options "-clisten_addresses= -cunix_socket_directories=$NEW -cfsync=off -cfull_page_writes=off -cmax_wal_size=4GB \
            -cwal_level=minimal -cmax_wal_senders=0 -cmaintenance_work_mem=128MB -cautovacuum=off"
}

# The superuser exists already; its password is copied like the others', as it is stored.
roles() {
    pg_dumpall --host "$OLD" --globals-only | sed '/^CREATE ROLE postgres;$/d' | sql "$NEW" template1 >/dev/null
}

databases() { # [OPTION...]
    local database
    while read -r database; do
        # --clean, as in pg_dumpall: the old database `postgres` replaces the new cluster's.
        pg_dump --host "$OLD" --create --clean --if-exists --lock-wait-timeout 60s --dbname "$database" "$@" \
            | sql "$NEW" template1 >/dev/null
    done < <(names "$OLD")
}

names() { sql "$1" postgres --command "SELECT datname FROM pg_database WHERE datname !~ '^template[01]$' ORDER BY 1"; }

analyze() { PGHOST=$NEW vacuumdb --all --analyze-only --quiet; }

compare() {
    frozen || die "the old server takes writes again: something has told it to reload its configuration"
    inventory "$OLD" >/tmp/old
    inventory "$NEW" >/tmp/new
    diff /tmp/old /tmp/new >/tmp/difference \
        || die "old and new differ: $(sed -n '/^[<>]/{s/^</old has/;s/^>/new has/;p;q}' /tmp/difference)"
    awk -F '|' '$1 == "table" { tables++; rows += $NF } END { print tables + 0, rows + 0 }' /tmp/old
}

# Roles with their passwords, databases, every table's owner, privileges and rows, every sequence. MAINTAIN
# came with 17 and is part of an older ALL.
inventory() { # HOST
    local database privileges="(SELECT string_agg(grantee::regrole || ':' || privilege_type, ',' ORDER BY 1)
        FROM (SELECT grantee, privilege_type FROM aclexplode(acl) WHERE privilege_type <> 'MAINTAIN'
            AND grantee <> owner ORDER BY grantee::regrole::text, privilege_type) AS each)"
    sql "$1" postgres <<SQL
SELECT 'role', rolname, rolsuper, rolcreaterole, rolcreatedb, rolcanlogin, rolreplication, rolbypassrls,
    md5(rolpassword) FROM pg_authid WHERE rolname !~ '^pg_' ORDER BY rolname;
SELECT 'member', roleid::regrole, member::regrole, admin_option FROM pg_auth_members
    WHERE member::regrole::text !~ '^pg_' ORDER BY roleid::regrole::text, member::regrole::text;
SELECT 'database', datname, owner::regrole, pg_encoding_to_char(encoding), datcollate, datctype, $privileges
    FROM (SELECT *, datdba AS owner, coalesce(datacl, acldefault('d', datdba)) AS acl FROM pg_database) AS d
    WHERE datname !~ '^template[01]$' ORDER BY datname;
SQL
    while read -r database; do
        sql "$1" "$database" <<SQL
SELECT 'sequence', current_database(), schemaname, sequencename, last_value FROM pg_sequences ORDER BY 3, 4;
SELECT format('SELECT %L, current_database(), %L, %L, %L, %L, count(*) FROM %I.%I', 'table', nspname, relname,
    owner::regrole, $privileges, nspname, relname)
FROM (SELECT *, relowner AS owner, coalesce(relacl, acldefault('r', relowner)) AS acl FROM pg_class) AS c
    JOIN pg_namespace AS n ON n.oid = relnamespace
WHERE relkind IN ('r', 'm') AND nspname !~ '^pg_' AND nspname <> 'information_schema'
ORDER BY nspname, relname \gexec
SQL
    done < <(names "$1")
}

finish() {
    pg_ctl --pgdata "$UNFINISHED" --wait --silent --mode fast stop
    initdb --sync-only --pgdata "$UNFINISHED" >/dev/null
}

adopt() { mv --no-target-directory "$UNFINISHED" "$PLACE" && sync "$VOLUME/$PG_MAJOR"; }
discard() { [ ! -e "$PLACE" ] || mv --no-target-directory "$PLACE" "$UNFINISHED"; }

forget() { # MAJOR
    local major path
    [ -s "$PLACE/PG_VERSION" ] || die "Postgres $PG_MAJOR has no data of its own in the volume yet"
    [ "${1:-$PG_MAJOR}" != "$PG_MAJOR" ] || die "say which former version's data to remove"
    while read -r major path; do
        [ "$major" = "$1" ] || continue
        # An old release had its data right in the volume, around the new version's directory.
        if [ "$path" = "$VOLUME" ]; then
            find "$VOLUME" -mindepth 1 -maxdepth 1 ! -name "$PG_MAJOR" -exec rm -rf {} +
        else
            rm -rf "$path"
        fi
        echo "Postgres $1's data is removed."
    done < <(found)
}

case ${1:-} in
    found | freeze | check | schema | create | roles | databases | analyze | compare | finish | adopt | discard | forget) "$@" ;;
    *) die "usage: $0 found|freeze|check|schema|create|roles|databases|analyze|compare|finish|adopt|discard|forget" ;;
esac
