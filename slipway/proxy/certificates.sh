#!/bin/sh
# A certificate for each site's name, and its renewals, which nginx takes up by itself.
#   certificates.sh           gets what is missing or due, and looks again every minute
#   certificates.sh renew     replaces all of them now
#   certificates.sh complete  fails while one is missing that needs no authority's consent
set -eu

live=/certificates/live   # NAME/fullchain.pem and privkey.pem in it
local=/certificates/local # the authority for names that no public one knows
umask 077

# The names that nginx serves over TLS.
names() {
    case $SITE_ADDRESS in http://*) ;; *) echo "${SITE_ADDRESS#*://}" ;; esac
    sed -nE 's/^[ \t]*server_name[ \t]+([^; ]+).*/\1/p' /etc/proxy/sites/*.conf 2>/dev/null || true
}

is_local() {
    case $1 in
    localhost | *.localhost | *.local | *.internal | *.test | *.home.arpa) ;;
    *[!0-9.]*.*) return 1 ;;
    esac
}

say() { printf '{"time":"%s","level":"%s","logger":"certificates","message":"%s"}\n' "$(date -u +%FT%T+00:00)" "$1" "$2"; }

# Whether it is there, and less than two thirds of its time are over.
good() {
    dates=$(openssl x509 -in "$live/$1/fullchain.pem" -noout -startdate -enddate 2>/dev/null) || return
    from=$(date -d "$(echo "$dates" | sed -n s/notBefore=//p)" +%s) to=$(date -d "$(echo "$dates" | sed -n s/notAfter=//p)" +%s)
    [ "$(date +%s)" -lt $((to - (to - from) / 3)) ]
}

# Caddy's, where nginx has taken its place: from the first moment on there is one.
inherit() {
    [ ! -e "$live/$1" ] || return 0
    for former in /certificates/caddy/certificates/*/"$1"/"$1".crt; do
        [ -e "$former" ] || return 0
        mkdir -p "$live/$1"
        cp "${former%.crt}.key" "$live/$1/privkey.pem"
        cp "$former" "$live/$1/fullchain.pem"
        say INFO "Caddy's certificate for $1"
    done
}

# By an authority of our own, which lasts as long as the volume.
sign() {
    key="-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes"
    mkdir -p $local
    # shellcheck disable=SC2086
    [ -e $local/root.crt ] || openssl req -x509 $key -days 3650 -subj "/CN=Local authority" \
        -addext "keyUsage=critical,keyCertSign,cRLSign" -keyout $local/root.key -out $local/root.crt 2>/dev/null
    new=$live/.$1
    rm -rf "$new" && mkdir -p "$new"
    case $1 in *[!0-9.]*) kind=DNS ;; *) kind=IP ;; esac
    # shellcheck disable=SC2086
    openssl req -x509 $key -days 90 -subj "/CN=$1" -CA $local/root.crt -CAkey $local/root.key \
        -addext "subjectAltName=$kind:$1" -addext "basicConstraints=critical,CA:FALSE" -addext "extendedKeyUsage=serverAuth" \
        -keyout "$new/privkey.pem" -out "$new/fullchain.pem" 2>/dev/null
    rm -rf "${live:?}/$1" && mv "$new" "$live/$1"
    say INFO "a certificate of our own for $1"
}

# From an authority, which asks nginx whether the name is ours. Nothing is asked while nginx does not answer.
request() {
    curl --silent --output /dev/null "http://listener:$HTTP_PORT/" || return 0
    if said=$(dehydrated --config "${0%/*}/dehydrated.conf" --cron --force --accept-terms --domain "$1" 2>&1); then
        say INFO "a certificate for $1"
    else
        say ERROR "no certificate for $1: $(printf %s "$said" | tr '\n\t' '  ' | tr -d '"\134' | tail -c 500)"
        return 1
    fi
}

get() { if is_local "$1"; then sign "$1"; else request "$1"; fi; }

case ${1:-keep} in
complete)
    for name in $(names); do
        is_local "$name" || case $CERTIFICATES in */*) ;; *) continue ;; esac
        [ -e "$live/$name/fullchain.pem" ] || exit 1
    done
    ;;
renew)
    for name in $(names); do get "$name"; done
    ;;
keep)
    trap 'exit 0' TERM
    case $CERTIFICATES in */*) say INFO "the certificates are those in $CERTIFICATES"; sleep infinity & wait ;; esac
    mkdir -p $live /certificates/acme /certificates/challenges/.well-known/acme-challenge
    pause=1
    while :; do
        failed=""
        for name in $(names); do
            is_local "$name" || inherit "$name"
            good "$name" || get "$name" || failed=yes
        done
        # An authority counts failures, and soon refuses to be asked: after 2 minutes, 4, and so on to an hour.
        if [ -z "$failed" ]; then pause=$((pause < 60 ? pause * 2 : 60)); else pause=$((pause < 60 ? 120 : pause < 3600 ? pause * 2 : 3600)); fi
        sleep $pause & wait $!
    done
    ;;
esac
