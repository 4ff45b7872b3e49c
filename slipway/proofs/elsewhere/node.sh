#!/usr/bin/env bash
# Starts what runs on a node: its name is that of its certificate.
set -euo pipefail

name=$(hostname)
nodes=(pg1 pg2 pg3)

etcd --name "$name" --data-dir /data/etcd --logger zap --log-level error --heartbeat-interval 200 \
    --election-timeout 2000 --initial-cluster-token shop --initial-cluster-state new \
    --initial-cluster "$(printf '%s,' "${nodes[@]/%/=http://NAME:2380}" | sed -E 's/(pg.)(=http:..)NAME/\1\2\1/g; s/,$//')" \
    --listen-peer-urls http://0.0.0.0:2380 --initial-advertise-peer-urls "http://$name:2380" \
    --listen-client-urls http://0.0.0.0:2379 --advertise-client-urls "http://$name:2379" &

cat >/data/pgbouncer.ini <<INI
[databases]
* = host=127.0.0.1 port=5432
[pgbouncer]
listen_addr = 0.0.0.0
listen_port = 6432
pool_mode = transaction
default_pool_size = 4
auth_type = scram-sha-256
auth_user = postgres
auth_dbname = postgres
client_tls_sslmode = require
client_tls_key_file = /tls/$name.key
client_tls_cert_file = /tls/$name.crt
INI
pgbouncer --quiet /data/pgbouncer.ini &

# loop_wait and retry_timeout are as short as Patroni allows, and so is ttl.
cat >/data/patroni.yaml <<YAML
scope: shop
name: $name
restapi: { listen: "0.0.0.0:8008", connect_address: "$name:8008" }
etcd3: { hosts: ["pg1:2379", "pg2:2379", "pg3:2379"] }
bootstrap:
  dcs:
    ttl: 20
    loop_wait: 1
    retry_timeout: 3
    primary_start_timeout: 0
    synchronous_mode: true
    postgresql:
      use_pg_rewind: true
      parameters:
        ssl: on
        ssl_cert_file: /tls/$name.crt
        ssl_key_file: /tls/$name.key
  initdb: [{ encoding: UTF8 }, { locale: C }, data-checksums]
postgresql:
  listen: 0.0.0.0:5432
  connect_address: $name:5432
  data_dir: /data/postgres
  bin_dir: /usr/lib/postgresql/18/bin
  parameters: { ssl_cert_file: /tls/$name.crt, ssl_key_file: /tls/$name.key }
  authentication:
    superuser: { username: postgres, password: $SUPERUSER_PASSWORD }
    replication: { username: replicator, password: $SUPERUSER_PASSWORD }
  pg_hba:
    - local all all trust
    - host all all 127.0.0.1/32 trust
    - hostssl replication replicator all scram-sha-256
    - hostssl all all all scram-sha-256
log: { level: WARNING }
YAML
exec patroni /data/patroni.yaml
