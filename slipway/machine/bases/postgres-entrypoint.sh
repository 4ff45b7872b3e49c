#!/usr/bin/env bash
# Does what the official image's entrypoint does: creates a database in an empty PGDATA, then runs the command.
set -Eeuo pipefail

die() { printf 'postgres: %s\n' "$*" >&2; exit 1; }

# file_env NAME [DEFAULT]: take NAME from the environment, or from the file that NAME_FILE points to.
# Scripts in /docker-entrypoint-initdb.d may call this one and docker_process_sql.
file_env() {
    local name=$1 file_name=${1}_FILE
    local value=${!name:-${2:-}} file=${!file_name:-}
    if [ -n "$file" ]; then
        [ -z "${!name:-}" ] || die "$name and $file_name are both set. Unset one of them."
        value=$(<"$file") || die "$file_name: $file can't be read."
    fi
    export "$name"="$value"
    unset "$file_name"
}

read_settings() {
    file_env POSTGRES_PASSWORD
    file_env POSTGRES_USER postgres
    file_env POSTGRES_DB "$POSTGRES_USER"
    file_env POSTGRES_INITDB_ARGS
    : "${POSTGRES_HOST_AUTH_METHOD:=}"
}

# Root prepares the directories and drops its rights; any other user needs them prepared.
prepare_directories() {
    mkdir -p "$PGDATA" /var/run/postgresql
    chmod 0700 "$PGDATA" || true
    chmod 3775 /var/run/postgresql 2>/dev/null || true    # a tmpfs of the runtime's user, perhaps
    [ -z "${POSTGRES_INITDB_WALDIR:-}" ] || { mkdir -p "$POSTGRES_INITDB_WALDIR"; chmod 0700 "$POSTGRES_INITDB_WALDIR"; }
    if [ "$(id -u)" = 0 ]; then
        find "$PGDATA" /var/run/postgresql ${POSTGRES_INITDB_WALDIR:+"$POSTGRES_INITDB_WALDIR"} \
            ! -user postgres -exec chown postgres {} +
    fi
}

check_settings() {
    # 18 keeps its data one level deeper; a volume at the old place would silently hold nothing.
    [ "$PG_MAJOR" -lt 18 ] || ! grep -q ' /var/lib/postgresql/data ' /proc/self/mountinfo \
        || die "a volume is mounted at /var/lib/postgresql/data. Since 18, mount it at /var/lib/postgresql."
    local former
    for former in /var/lib/postgresql{,/data,/*/docker}; do
        [ "$PG_MAJOR" -lt 18 ] || [ ! -s "$former/PG_VERSION" ] \
            || die "there is data of another major version in $former; an empty database beside it is not made."
    done
    [ -n "$POSTGRES_PASSWORD" ] || [ "$POSTGRES_HOST_AUTH_METHOD" = trust ] \
        || die "POSTGRES_PASSWORD is not set, and the superuser needs one. Set it, or POSTGRES_PASSWORD_FILE;" \
            "POSTGRES_HOST_AUTH_METHOD=trust lets every client in without a password."
    [ "$POSTGRES_HOST_AUTH_METHOD" != trust ] \
        || echo 'postgres: POSTGRES_HOST_AUTH_METHOD=trust: anyone who reaches the port is the superuser.' >&2
}

create_cluster() {
    local options=()
    [ -z "${POSTGRES_INITDB_WALDIR:-}" ] || options=(--waldir "$POSTGRES_INITDB_WALDIR")
    # eval, because POSTGRES_INITDB_ARGS may hold quoted words; a pipe, because a password must not be an argument
    eval "options+=($POSTGRES_INITDB_ARGS)"
    initdb --username="$POSTGRES_USER" --pwfile=<(printf '%s\n' "$POSTGRES_PASSWORD") "${options[@]}"
    # The method that passwords are stored for, unless told another.
    local method=${POSTGRES_HOST_AUTH_METHOD:-$(postgres -C password_encryption "$@")}
    printf '\nhost all all all %s\n' "$method" >> "$PGDATA/pg_hba.conf"
}

# During the first boot only the unix socket answers, so that no client meets a half-made database.
start_private_server() { pg_ctl -w start -o "$(printf '%q ' "$@" -c listen_addresses= -p "${PGPORT:-5432}")"; }
stop_private_server() { pg_ctl -w -m fast stop; }

# Into POSTGRES_DB, unless a later --dbname says otherwise.
docker_process_sql() {
    local database=()
    [ -z "${POSTGRES_DB:-}" ] || database=(--dbname "$POSTGRES_DB")
    PGHOST='' PGHOSTADDR='' psql -v ON_ERROR_STOP=1 --no-psqlrc --no-password \
        --username "$POSTGRES_USER" "${database[@]}" "$@"
}

create_database() {
    local found
    found=$(docker_process_sql --dbname postgres --set db="$POSTGRES_DB" --tuples-only \
        <<< "SELECT 1 FROM pg_database WHERE datname = :'db'")
    [ -n "$found" ] || docker_process_sql --dbname postgres --set db="$POSTGRES_DB" \
        <<< 'CREATE DATABASE :"db"'
}

run_init_files() {
    local file
    for file in /docker-entrypoint-initdb.d/*; do
        printf 'postgres: %s\n' "$file"
        # shellcheck source=/dev/null
        case $file in
            # A mounted script may have lost its x bit: then it is read into this shell.
            *.sh) if [ -x "$file" ]; then "$file"; else . "$file"; fi ;;
            *.sql) docker_process_sql -f "$file" ;;
            *.sql.gz) gunzip -c "$file" | docker_process_sql ;;
            *.sql.xz) xzcat "$file" | docker_process_sql ;;
            *.sql.zst) zstd -dc "$file" | docker_process_sql ;;
            *) printf 'postgres: %s: ignored, its name ends in none of .sh .sql .sql.gz .sql.xz .sql.zst\n' "$file" ;;
        esac
    done
}

initialise() {
    check_settings
    create_cluster "$@"
    export PGPASSWORD=$POSTGRES_PASSWORD
    start_private_server "$@"
    create_database
    shopt -s nullglob
    run_init_files
    stop_private_server
    unset PGPASSWORD
    printf '\npostgres: the database is made; starting the server.\n\n'
}

asks_for_help() {
    local argument
    for argument; do
        case $argument in -'?' | --help | --describe-config | -V | --version) return 0 ;; esac
    done
    return 1
}

# Options alone are meant for the server.
case ${1:-} in -*) set -- postgres "$@" ;; esac

if [ "${1:-}" = postgres ] && ! asks_for_help "$@"; then
    read_settings
    prepare_directories
    # The server refuses to be root; from here on, so does everything else.
    [ "$(id -u)" != 0 ] || exec setpriv --reuid=postgres --regid=postgres --init-groups "$0" "$@"
    if [ -s "$PGDATA/PG_VERSION" ]; then
        echo 'postgres: PGDATA holds a database already; it is used as it is.'
    else
        initialise "${@:2}"
    fi
fi

exec "$@"
