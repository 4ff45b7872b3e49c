#!/bin/sh
# What the official image's entrypoint does: HAProxy runs in the foreground, with a master process that can reload.
set -e

case "$1" in -*) set -- haproxy "$@" ;; esac
if [ "$1" = haproxy ]; then
    shift
    set -- haproxy -W -db "$@"
fi
exec "$@"
