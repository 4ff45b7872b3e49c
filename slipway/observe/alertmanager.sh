#!/bin/sh
# Alertmanager, with the receiver that the settings name. Without any it shows alerts to those who ask: `make alerts`.
set -eu

config=/tmp/alertmanager.yml url=$(cat /run/secrets/alert_webhook_url)

die() { echo "$*" >&2; exit 1; }
check() { # NAME PATTERN VALUE
    echo "$3" | grep -qxE "$2" || die "$1 can't be '$3': ${4:-see docs/observe.md}"
}

cat /etc/observe/alertmanager.yml - >$config <<END
receivers:
  - name: out
END
if [ "$ALERT_WEBHOOK_HOST" ]; then
    case $url in
    "https://$ALERT_WEBHOOK_HOST" | "https://$ALERT_WEBHOOK_HOST"/*) ;;
    *) die "secrets/alert_webhook_url must begin with https://$ALERT_WEBHOOK_HOST/, as ALERT_WEBHOOK_HOST says" ;;
    esac
    echo "    webhook_configs: [{ url_file: /run/secrets/alert_webhook_url }]" >>$config
elif [ "$url" ]; then
    die "secrets/alert_webhook_url has an address, and ALERT_WEBHOOK_HOST, which lets it out, is not set"
fi
if [ "$ALERT_MAIL" ]; then
    check ALERT_MAIL '[^@" ]+@[A-Za-z0-9.-]+' "$ALERT_MAIL" "an address is needed, such as ops@shop.example"
    check ALERT_SMTP_HOST '[A-Za-z0-9.-]+' "$ALERT_SMTP_HOST" "the name of a mail server is needed"
    check ALERT_SMTP_PORT '[0-9]+' "$ALERT_SMTP_PORT" "a port is needed, 587 or 465"
    cat >>$config <<END
    email_configs:
      - to: "$ALERT_MAIL"
        from: "$ALERT_MAIL"
        smarthost: "$ALERT_SMTP_HOST:$ALERT_SMTP_PORT"
        send_resolved: true
END
    [ -z "$ALERT_SMTP_USER" ] || cat >>$config <<END
        auth_username: "$ALERT_SMTP_USER"
        auth_password_file: /run/secrets/alert_smtp_secret
END
fi
exec /bin/alertmanager --config.file=$config --storage.path=/alertmanager --cluster.listen-address= "$@"
