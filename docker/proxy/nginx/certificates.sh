#!/bin/sh
# A certificate for each site's name, and its renewals, which nginx takes up by itself.
#   certificates.sh           gets what is missing or about to expire, and looks again every minute
#   certificates.sh complete  fails while a name that is no public one has none
set -eu

live=/certificates/live # NAME/fullchain.pem and privkey.pem in it
local=/certificates/local # the authority for names that no public one knows
umask 077

# The names that nginx serves over TLS.
names() {
    case $SITE_ADDRESS in http://*) ;; *) echo "${SITE_ADDRESS#*://}" ;; esac
    cat /etc/proxy/sites/*.conf 2>/dev/null | sed -nE 's/^[ \t]*server_name[ \t]+([^; ]+).*/\1/p'
}

say() { printf '{"time":"%s","level":"%s","logger":"certificates","message":"%s"}\n' "$(date -u +%FT%T+00:00)" "$1" "$2"; }

# Whether it is there, and less than two thirds of its time are over.
good() {
    dates=$(openssl x509 -in "$live/$1/fullchain.pem" -noout -startdate -enddate 2>/dev/null) || return
    from=$(date -d "$(echo "$dates" | sed -n s/notBefore=//p)" +%s) to=$(date -d "$(echo "$dates" | sed -n s/notAfter=//p)" +%s)
    [ "$(date +%s)" -lt $((to - (to - from) / 3)) ]
}

is_local() {
    case $1 in
    localhost | *.localhost | *.local | *.internal | *.test | *.home.arpa) ;;
    *[!0-9.]*.*) return 1 ;; # a public name
    esac
}

authority() {
    [ -e $local/root.crt ] && return
    mkdir -p $local
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 -subj "/CN=Slipway local authority" \
        -addext "keyUsage=critical,keyCertSign,cRLSign" -keyout $local/root.key -out $local/root.new 2>/dev/null
    mv $local/root.new $local/root.crt
}

sign() {
    authority
    new=$live/$1.new
    rm -rf "$new" && mkdir -p "$new"
    case $1 in *[!0-9.]*) kind=DNS ;; *) kind=IP ;; esac
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 90 -subj "/CN=$1" \
        -CA $local/root.crt -CAkey $local/root.key -addext "subjectAltName=$kind:$1" -addext "basicConstraints=critical,CA:FALSE" \
        -addext "extendedKeyUsage=serverAuth" -keyout "$new/privkey.pem" -out "$new/fullchain.pem" 2>/dev/null
    rm -rf "${live:?}/$1" && mv "$new" "$live/$1"
    say INFO "a certificate of our own for $1"
}

request() {
    if said=$(dehydrated --config /etc/proxy/dehydrated.conf --cron --force --accept-terms --domain "$1" 2>&1); then
        say INFO "a certificate for $1"
    else
        say ERROR "no certificate for $1: $(printf %s "$said" | tr -s '\n\t ' ' ' | tr -d '"\\' | tail -c 500)"
        return 1
    fi
}

case ${1:-keep} in
complete)
    for name in $(names); do ! is_local "$name" || [ -e "$live/$name/fullchain.pem" ] || exit 1; done
    ;;
keep)
    trap 'exit 0' TERM
    [ -z "$CERTIFICATES" ] || { say INFO "certificates are those in $CERTIFICATES"; sleep infinity & wait; }
    mkdir -p $live /certificates/challenges/.well-known/acme-challenge
    pause=60
    while :; do
        failed=""
        for name in $(names); do
            good "$name" || if is_local "$name"; then sign "$name"; else request "$name" || failed=yes; fi
        done
        # An authority counts failures, and soon refuses to be asked.
        if [ -z "$failed" ]; then pause=60; elif [ $pause -lt 3600 ]; then pause=$((pause * 2)); fi
        sleep $pause & wait $!
    done
    ;;
esac
