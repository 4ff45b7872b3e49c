#!/bin/sh
# nginx with the configuration of docker/proxy/nginx, in which `${NAME}` stands for a variable of the environment.
#   nginx.sh          serves; if the configuration is invalid, with the last one that worked: a mistake in an edit must
#                     not take the site down at the next restart
#   nginx.sh check    says on stderr what is wrong with it
#   nginx.sh reload   has the running nginx load it, or says what is wrong, and nothing changes
#   nginx.sh without NAME, nginx.sh with NAME   takes a replica out, until it is put back, or the next reload or start
set -eu

here=/etc/proxy
kept=/data/nginx # what serves

# Names for the configuration, from compose's.
export CLIENT_CONNECTIONS CLIENT_REQUESTS HTTP_PORT HTTPS_PORT
export SITE_NAME="${SITE_ADDRESS#*://}" TO_HTTPS=1 PUBLIC_PORT=":$HTTPS_PORT" WORKERS="${PROXY_CPUS%.*}"
export TRACES="${OTEL_EXPORTER_OTLP_ENDPOINT:+1}" TRACE_FIELD=""
# shellcheck disable=SC2016 # nginx's variable
[ -z "$TRACES" ] || TRACE_FIELD='"trace_id":"$trace_id",'
case $SITE_ADDRESS in http://*) TO_HTTPS="" ;; esac
case ,${OBSERVE:-}, in *,observe,*) export METRICS_BIND=0.0.0.0 ;; *) export METRICS_BIND=127.0.0.1 ;; esac
[ "$HTTPS_PORT" != 443 ] || PUBLIC_PORT=""
[ "$WORKERS" -ge 1 ] || WORKERS=1
# shellcheck disable=SC2016 # the names, not their values
NAMES='$CLIENT_CONNECTIONS $CLIENT_REQUESTS $HTTP_PORT $HTTPS_PORT $METRICS_BIND $SITE_NAME $TO_HTTPS $PUBLIC_PORT $TRACES $TRACE_FIELD $WORKERS'

# The complete configuration, in $1. Fails, and says why, if it is invalid.
render() {
    rm -rf "$1"
    cp -R "$here" "$1"
    (cd "$here" && find . -name '*.conf') | while read -r file; do envsubst "$NAMES" <"$here/$file" >"$1/$file"; done
    [ -e /proc/net/if_inet6 ] || sed -i '/^ *listen *\[::\]/d' "$1"/*.conf # a kernel without IPv6
    if ! said=$(nginx -t -c "$1/nginx.conf" 2>&1); then
        printf '%s\n' "$said" | sed -nE "s|$1/|docker/proxy/nginx/|; s|.*\[emerg\] ([0-9]+#[0-9]+: )?||p" | head -n 1 >&2
        return 1
    fi
}

keep() { rm -rf "$kept" && mv "$1" "$kept"; }

# What nginx says about itself, as JSON like its access log.
as_json() {
    awk '{
        level = match($0, /\[(warn|notice|info)\]/) ? toupper(substr($0, RSTART + 1, RLENGTH - 2)) : "ERROR"
        sub(/^.*\[[a-z]+\] ([0-9]+#[0-9]+: )?/, ""); gsub(/\\/, "\\\\"); gsub(/"/, "\\\""); gsub(/[\001-\037]/, " ")
        time = strftime("%Y-%m-%dT%H:%M:%S+00:00", systime(), 1)
        printf "{\"time\":\"%s\",\"level\":\"%s\",\"logger\":\"nginx\",\"message\":\"%s\"}\n", time, level, $0; fflush()
    }'
}

workers() {
    tr ' ' '\n' <"/proc/$(cat /tmp/nginx.pid)/task/$(cat /tmp/nginx.pid)/children" | while read -r each; do
        if grep -q '^nginx: worker' "/proc/$each/cmdline"; then echo "$each"; fi
    done
}

# Has nginx load what is kept. Returns once the former workers are gone, or take no more requests: keepalive_min_timeout.
load() {
    former=$(workers)
    nginx -s reload -c "$kept/nginx.conf" 2>/dev/null
    for _ in 1 2 3 4 5 6 7 8 9 10 11 12; do
        left=$(for each in $former; do [ ! -d "/proc/$each" ] || echo "$each"; done)
        [ "$left" ] || return 0
        sleep 0.1
    done
}

# Asks a replica that was taken out whether it wants requests, until it is gone: its drain ends with the first no.
tell() {
    tries=0
    while [ $((tries += 1)) -le 300 ] && curl --silent --max-time 1 "http://$1:8000/health/ready?for=traffic"; do sleep 0.2; done
}

case ${1:-run} in
check) render /tmp/checked ;;
reload)
    render /data/next
    keep /data/next
    load
    ;;
without)
    sed -i "s/\(server $2:.*\);/\1 down; # taken out/" "$kept"/upstreams/*.conf
    load
    (exec >/dev/null 2>&1; tell "$2") & # not on the function: the shell would keep the caller's pipes
    ;;
with)
    sed -i "/server $2:/s/ down; # taken out/;/" "$kept"/upstreams/*.conf
    nginx -s reload -c "$kept/nginx.conf" 2>/dev/null
    ;;
run)
    if said=$(render /data/next 2>&1); then
        keep /data/next
    else
        printf '%s: %s\n' "docker/proxy/nginx is invalid: the last configuration that worked is served, if there is one" "$said" | as_json
    fi
    mkfifo /tmp/errors
    as_json </tmp/errors &
    # Without a listener, as in an image with its configuration in it, nginx opens the ports itself.
    if [ -e /run/listener ]; then set -- launch 15; else set --; fi
    exec "$@" nginx -c "$kept/nginx.conf" -g "daemon off;" 2>/tmp/errors
    ;;
esac
