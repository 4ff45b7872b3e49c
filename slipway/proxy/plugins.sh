#!/bin/sh
# Builds Caddy with the modules in CADDY_PLUGINS, for docker/proxy/caddy/Dockerfile. If that fails, says why in one line.
set -eu

for each in $CADDY_PLUGINS; do
    set -- "$@" --with "$each"
    echo "${each%%[@=]*}" >>/tmp/names
done
xcaddy build --output /usr/bin/caddy "$@" >/tmp/log 2>&1 && exit

# Go says more after the line that names the module.
grep -vE '\[(INFO|FATAL)\]' /tmp/log >/tmp/said || true
echo "CADDY_PLUGINS: $({ tail -n 1 /tmp/said; grep -F -f /tmp/names /tmp/said; } | tail -n 1)" >&2
exit 1
