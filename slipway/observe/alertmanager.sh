#!/bin/sh
# Alertmanager, with a configuration from the settings.
set -eu

cat >/tmp/alertmanager.yml <<END
route: { receiver: none }
receivers: [{ name: none }]
END
exec /bin/alertmanager --config.file=/tmp/alertmanager.yml --storage.path=/alertmanager --cluster.listen-address= "$@"
