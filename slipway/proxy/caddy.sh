#!/bin/sh
# Starts Caddy with the Caddyfile, or if that is invalid, with the last configuration that worked: a mistake in an
# edit must not take the site down at the next restart. Caddy saves its configuration after every start and reload.
set -eu

config=/etc/caddy/Caddyfile
if said=$(caddy validate --config "$config" 2>&1); then
    exec caddy run --config "$config"
fi
reason=$(printf "%s\n" "$said" | grep -v '^{' | tail -n 1 | sed 's/^Error: //; s/[\\"]/\\&/g')
msg="docker/proxy/caddy/Caddyfile is invalid: the last configuration that worked is served, if there is one"
printf '{"level":"error","ts":%s,"logger":"start","msg":"%s","error":"%s"}\n' "$(date +%s)" "$msg" "$reason" >&2
exec caddy run --config "$config" --resume # with nothing saved it fails, for the same reason as above
