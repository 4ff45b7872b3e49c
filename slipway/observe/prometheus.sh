#!/bin/sh
# Prometheus, with the targets that depend on the settings.
set -eu

# NAME TARGET [LABELS]: a file of one target, or of none.
targets() { printf '[{"targets": [%s], "labels": {%s}}]\n' "${2:+\"$2\"}" "${3:-}" >"/tmp/$1.json"; }

targets postgres "$([ "$DATABASE_URL" ] || echo postgres-metrics:9187)"
site=${SITE_ADDRESS#*://} own='"authority": "own"'
case $SITE_ADDRESS in
http://*) targets site "" ;;
# A name that no public authority certifies: the certificate is the proxy's own, and replaced within hours.
localhost | *.localhost | *.local | *.internal | *.test | *.home.arpa) targets site "$site" "$own" ;;
*[!0-9.]*.*) targets site "$site" ;;
*) targets site "$site" "$own" ;;
esac
sed "s/HTTPS_PORT/$HTTPS_PORT/" /etc/observe/prometheus.yml >/tmp/prometheus.yml
exec /bin/prometheus --config.file=/tmp/prometheus.yml --storage.tsdb.path=/prometheus "$@"
