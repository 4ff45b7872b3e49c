#!/bin/sh
# Caddy with docker/proxy/caddy/Caddyfile.
#   caddy.sh          serves; if the Caddyfile is invalid, with the last configuration that worked: a mistake in an edit
#                   must not take the site down at the next restart. Caddy saves its configuration after every start
#   caddy.sh check    says on stderr what is wrong with it
#   caddy.sh both     prints it, and what is served, each in a line of JSON
#   caddy.sh healthy  fails while no configuration runs, or the certificate of `localhost` is still being made
set -eu

config=/etc/caddy/Caddyfile
launch="launch 3"
# Without a listener, as in an image with its configuration in it, Caddy opens the ports itself, for IPv4 and IPv6.
[ -e /run/listener ] || { launch=""; export HTTP_SOCKETS=0.0.0.0 HTTPS_SOCKETS=0.0.0.0; }
# Sites without TLS; the name that would be redirected is then one that no client asks for.
case $SITE_ADDRESS in http://*) export SITE_BIND="bind ${HTTP_SOCKETS:-fd/4 fd/5}" SCHEME=http:// REDIRECTED=none. ;; esac
[ -z "${FRONT_PROXIES:-}" ] || export TRUSTED="trusted_proxies static $FRONT_PROXIES"
case ,${OBSERVE:-}, in *,observe,*) export METRICS=metrics METRICS_BIND=0.0.0.0 ;; esac
[ -z "${OTEL_EXPORTER_OTLP_ENDPOINT:-}" ] || export TRACES="import traces"
[ -z "${ACME_EMAIL:-}" ] || export ACME_ACCOUNT="email $ACME_EMAIL"

case ${1:-run} in
check) exec caddy validate --config "$config" ;;
both) caddy adapt --config "$config" 2>/dev/null && wget -q -O - http://127.0.0.1:2019/config/ ;;
healthy)
    wget -q --spider http://127.0.0.1:2019/config/
    # Caddy makes it just after its configuration runs. A domain's is an authority's work, and does not count here.
    [ "$SITE_ADDRESS" != localhost ] ||
        wget -q --spider --no-check-certificate "https://localhost:${HTTPS_PORT:-443}/_proxy/error.css"
    ;;
run)
    if said=$(caddy validate --config "$config" 2>&1); then
        exec $launch caddy run --config "$config"
    fi
    reason=$(printf "%s\n" "$said" | grep -v '^{' | tail -n 1 | sed 's/^Error: //; s/[\\"]/\\&/g')
    msg="docker/proxy/caddy/Caddyfile is invalid: the last configuration that worked is served, if there is one"
    printf '{"level":"error","ts":%s,"logger":"start","msg":"%s","error":"%s"}\n' "$(date +%s)" "$msg" "$reason" >&2
    exec $launch caddy run --config "$config" --resume # with nothing saved it fails, for the same reason as above
    ;;
esac
