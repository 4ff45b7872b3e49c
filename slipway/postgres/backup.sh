#!/usr/bin/env bash
# Dumps, checks, restores and rotates with the image's own tools. `make backup` and `make restore`
# (slipway/commands/backup.py) run single steps in the container `db`; the service `backup` runs `schedule`.
#
#   dump DATABASE        the archive, to stdout
#   check                reads a whole archive from stdin; prints its database, tables and rows
#   select               reads the archive's table of contents from stdin, and stores the entries for `load`
#   load DATABASE NEW    loads the archive from stdin into the new database NEW
#   swap DATABASE NEW    gives NEW the name DATABASE; prints the former database's new name, and milliseconds
#   drop NAME            drops a database that `load` created or `swap` kept
#   schedule             dumps each service's database every BACKUP_INTERVAL seconds
#   healthy              exits with 0 if the newest dump of each is younger than two intervals
set -euo pipefail
shopt -s nullglob

DIRECTORY=/backups
LIMIT=12h # a frozen server, or a damaged archive that pg_restore loops over, ends here
PSQL=(psql --no-psqlrc --quiet --no-align --tuples-only --set ON_ERROR_STOP=1)

# The socket would lead to the temporary server of the first boot.
export PGHOST=${PGHOST:-127.0.0.1} PGCONNECT_TIMEOUT=10

die() { echo "$*" >&2; exit 1; }

# The owner's password comes in the environment or from the secret's file, never on a command line.
as_owner() { # DATABASE COMMAND...
    local secret=/run/secrets/$1_owner_password
    [ "${OWNER_PASSWORD:-}" ] || [ -r "$secret" ] || die "there is no service $1: $secret is missing"
    PGUSER=$1_owner PGPASSWORD=${OWNER_PASSWORD:-$(<"$secret")} "${@:2}"
}

become_superuser() {
    export PGUSER=postgres PGPASSWORD
    PGPASSWORD=$(<"$POSTGRES_PASSWORD_FILE")
}

# Compressed with gzip, whose checksum shows if a row has changed on disk; zstd has none by default.
dump() { as_owner "$1" pg_dump --format custom --compress gzip --lock-wait-timeout 60s --dbname "$1" --no-password; }

# `pg_restore --list` would read only the table of contents, and miss that the rows are cut off.
check() {
    timeout "$LIMIT" pg_restore --create --file - | LC_ALL=C awk '
        copying                          { if ($0 == "\\.") copying = 0; else rows++; next }
        /^COPY .* FROM stdin;$/          { copying = 1 }
        /^-- Name: .*; Type: TABLE; /    { tables++ }
        /^-- Name: .*; Type: DATABASE; / { database = $0; gsub(/^-- Name: |; Type: .*/, "", database) }
        END { if (database == "") exit 1; print database, tables + 0, rows + 0 }
    '
}

# All but comments on extensions, which fail if the superuser has created the extension.
select_entries() { pg_restore --list | grep -v ' COMMENT - EXTENSION ' >/tmp/selected; }

# As the owner: the contents of an archive never run with a superuser's rights.
load() {
    become_superuser
    "${PSQL[@]}" --dbname postgres --set prefix="$1_restore_" <<'SQL' # left by an interrupted restore
SELECT format('DROP DATABASE %I WITH (FORCE)', datname) FROM pg_database WHERE starts_with(datname, :'prefix') \gexec
SQL
    "${PSQL[@]}" --dbname postgres --set app="$1" --set database="$2" --file "$(dirname "$0")/../../docker/database.sql"
    as_owner "$1" pg_restore --dbname "$2" --no-password --use-list /tmp/selected \
        --exit-on-error --single-transaction
    "${PSQL[@]}" --dbname "$2" --command ANALYZE # before a query is planned without statistics
}

# One transaction, so that whatever dies, a database has the name. While RENAME waits for the old sessions to end,
# 5 s at most, it lets no new ones in; the helper ends those that slipped in before it.
swap() {
    local kept
    kept=$1_before_$(date -u +%Y%m%d_%H%M%S_%3N)
    become_superuser
    "${PSQL[@]}" --dbname postgres --set database="$1" >/dev/null <<'SQL' &
SELECT oid FROM pg_database WHERE datname = :'database' \gset
SELECT pg_sleep(0.05);
SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datid = :oid \watch i=0.02 c=300
SQL
    helper=$!
    trap 'kill "$helper" 2>/dev/null || true; wait "$helper" || true' EXIT
    "${PSQL[@]}" --dbname postgres --set database="$1" --set new="$2" --set kept="$kept" <<'SQL'
SELECT clock_timestamp() AS began \gset
SELECT count(pg_terminate_backend(pid, 1000)) AS ended FROM pg_stat_activity WHERE datname = :'database' \gset
BEGIN;
SELECT format('ALTER DATABASE %I RENAME TO %I', datname, :'kept') FROM pg_database WHERE datname = :'database' \gexec
ALTER DATABASE :"new" RENAME TO :"database";
COMMIT;
SELECT :'kept' || ' ' || round(1000 * extract(epoch FROM clock_timestamp() - :'began'::timestamptz));
SQL
}

drop() {
    case $1 in
        *_restore_* | *_before_*) ;;
        *) die "$1 is not a database that a restore has made or kept" ;;
    esac
    become_superuser
    "${PSQL[@]}" --dbname postgres --set database="$1" <<<'DROP DATABASE IF EXISTS :"database" WITH (FORCE)'
}

# Saves a verified dump under its final name, then deletes the oldest: a dump that fails deletes nothing. One at a time:
# of two in the same second, one would write to the other's file.
keep() {
    local name contents files removed=0 lock
    umask 022 # readable for the user who copies them away; the directory above admits no other
    [ -w "$DIRECTORY" ] || die "$DIRECTORY is not writable: on the host, \`chmod 777 backups/scheduled\`"
    exec {lock}<"$DIRECTORY"
    flock "$lock"
    rm -f "$DIRECTORY/.$1"-*.unfinished # left by a run that was killed
    while name=$1-$(now).dump && [ -e "$DIRECTORY/$name" ]; do sleep 0.1; done
    unfinished=$DIRECTORY/.$name.unfinished
    trap 'rm -f "$unfinished"' EXIT
    timeout "$LIMIT" "$0" dump "$1" >"$unfinished"
    contents=$(check <"$unfinished")
    sync "$unfinished"
    sha256sum <"$unfinished" | sed "s/-$/$name/" >"$DIRECTORY/$name.sha256"
    mv "$unfinished" "$DIRECTORY/$name"
    find_dumps "$1"
    while ((${#files[@]} - removed > BACKUP_KEEP)); do
        rm -f "${files[removed]}" "${files[removed]}.sha256"
        removed=$((removed + 1))
    done
    echo "$name $(stat --format %s "$DIRECTORY/$name") ${contents#* } $removed"
}

# Sets `files`, the oldest first. It skips files with other names, and those from a clock that was ahead: they would
# count as the newest until their time has passed, and each new dump as the oldest.
find_dumps() {
    local file last
    last=$DIRECTORY/$1-$(now).dump files=()
    for file in "$DIRECTORY/$1"-????????T??????Z.dump; do
        [[ $file > $last ]] || files+=("$file")
    done
}

now() { date -u +%Y%m%dT%H%M%SZ; }

# Sets `databases`: those whose owner's password is here.
find_databases() {
    databases=(/run/secrets/*_owner_password)
    databases=("${databases[@]##*/}")
    databases=("${databases[@]%_owner_password}")
}

schedule() {
    local value database databases
    find_databases
    for value in "$BACKUP_INTERVAL" "$BACKUP_KEEP"; do
        [[ $value =~ ^[1-9][0-9]*$ ]] || { log ERROR "BACKUP_INTERVAL and BACKUP_KEEP must be positive numbers"; exit 2; }
    done
    exec 3>&1 # during a dump the trap would write to the dump's result
    trap 'rm -f "$DIRECTORY"/.*.unfinished; log INFO "stopped" >&3; exit 0' TERM INT
    log INFO "started" interval "$BACKUP_INTERVAL" keep "$BACKUP_KEEP"
    while :; do
        for database in "${databases[@]}"; do
            fresh "$database" "$BACKUP_INTERVAL" || attempt "$database"
        done
        tell 2>/dev/null || true # on a disk that is full the former file stays, and grows old
        wait_for sleep $((BACKUP_INTERVAL < 60 ? BACKUP_INTERVAL : 60))
    done
}

attempt() {
    local began=$SECONDS file bytes tables rows removed
    if wait_for "$0" keep "$1" >/tmp/result 2>/tmp/error; then
        read -r file bytes tables rows removed </tmp/result
        log INFO "backed up $1" file "\"$file\"" bytes "$bytes" tables "$tables" rows "$rows" \
            seconds $((SECONDS - began)) removed "$removed"
    else
        log ERROR "the backup of $1 failed: $(grep -im1 'error' /tmp/error || tail -n1 /tmp/error)"
    fi
}

# For Prometheus: the time of each newest dump, or of this start while there is none.
tell() {
    local database files newest
    for database in "${databases[@]}"; do
        find_dumps "$database"
        if ((${#files[@]})); then newest=$(stat --format %Y "${files[-1]}"); else newest=$(($(date +%s) - SECONDS)); fi
        echo "backup_newest_timestamp_seconds{database=\"$database\"} $newest"
        echo "backup_interval_seconds{database=\"$database\"} $BACKUP_INTERVAL"
    done >"$DIRECTORY/.backup.prom.unfinished" && mv "$DIRECTORY/.backup.prom.unfinished" "$DIRECTORY/.backup.prom"
}

# In the background: bash runs a trap at once during `wait`, but only after a command in the foreground.
wait_for() { "$@" & wait "$!"; }

fresh() { # DATABASE SECONDS
    local files age
    find_dumps "$1"
    ((${#files[@]})) || return
    age=$(($(date +%s) - $(stat --format %Y "${files[-1]}")))
    ((age >= 0 && age < $2))
}

healthy() {
    local database databases
    find_databases
    for database in "${databases[@]}"; do
        fresh "$database" $((2 * BACKUP_INTERVAL)) || die "no backup of $database in two intervals"
    done
}

log() { # LEVEL MESSAGE [NAME JSON]...
    local line
    line="{\"time\": \"$(date -u +%FT%T.%3NZ)\", \"level\": \"$1\", \"logger\": \"backup\", \"message\": \"$(escaped "$2")\""
    shift 2
    while (($#)); do line+=", \"$1\": $2"; shift 2; done
    echo "$line}"
}

escaped() { tr -d '[:cntrl:]' <<<"$1" | sed 's/[\\"]/\\&/g'; }

case ${1:-} in
    select) select_entries ;;
    dump | check | load | swap | drop | keep | schedule | healthy) "$@" ;;
    *) die "usage: $0 dump|check|select|load|swap|drop|schedule|healthy ..." ;;
esac
