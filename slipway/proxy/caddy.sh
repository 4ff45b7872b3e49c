#!/bin/sh
# Caddy with docker/proxy/caddy/Caddyfile.
#   caddy.sh        serves; if the Caddyfile is invalid, with the last configuration that worked: a mistake in an edit
#                   must not take the site down at the next restart. Caddy saves its configuration after every start
#   caddy.sh check  says on stderr what is wrong with it
#   caddy.sh both   prints it, and what is served, each in a line of JSON
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

# Caddy accepts connections before it makes a certificate of its own, and refuses them until it has. So what is missing
# is made first, by a Caddy that listens nowhere. A domain's certificate takes an authority, which asks the proxy.
make_certificate() {
    made=/data/caddy/certificates/local/$1/$1.json # written last
    [ ! -e "$made" ] || return 0
    caddy run --config - 2>/dev/null <<JSON &
{"admin": {"disabled": true, "config": {"persist": false}},
 "apps": {"pki": {"certificate_authorities": {"local": {"install_trust": false}}},
          "tls": {"certificates": {"automate": ["$1"]},
                  "automation": {"policies": [{"subjects": ["$1"], "issuers": [{"module": "internal"}]}]}}}}
JSON
    for _ in $(seq 100); do
        if [ -e "$made" ] || ! kill -0 $! 2>/dev/null; then break; fi
        sleep 0.1
    done
    kill $! 2>/dev/null && wait $! || true
}

case ${1:-run} in
check) exec caddy validate --config "$config" ;;
both) caddy adapt --config "$config" 2>/dev/null && wget -q -O - http://127.0.0.1:2019/config/ ;;
run)
    for site in "${SITE_ADDRESS#https://}" $(sed -n 's/^{.SCHEME}\([^ ]*\) {.*/\1/p' /etc/caddy/sites/*.caddy 2>/dev/null); do
        case $site in localhost | *.localhost | *.local | *.internal | *.home.arpa) make_certificate "$site" ;; esac
    done
    if said=$(caddy validate --config "$config" 2>&1); then
        exec $launch caddy run --config "$config"
    fi
    reason=$(printf "%s\n" "$said" | grep -v '^{' | tail -n 1 | sed 's/^Error: //; s/[\\"]/\\&/g')
    msg="docker/proxy/caddy/Caddyfile is invalid: the last configuration that worked is served, if there is one"
    printf '{"level":"error","ts":%s,"logger":"start","msg":"%s","error":"%s"}\n' "$(date +%s)" "$msg" "$reason" >&2
    exec $launch caddy run --config "$config" --resume # with nothing saved it fails, for the same reason as above
    ;;
esac
