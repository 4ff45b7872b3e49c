# Stand-in for postgres:18-trixie: Debian's PostgreSQL with the official image's user, paths and entrypoint.
# For a former major version, `build` gives the suite that carries it, and that image's paths.
# Differs: no JIT (it would bring LLVM), and a numeric user must be 999 or one that /etc/passwd knows.
ARG SUITE=forky
FROM slipway/debian:${SUITE}-slim
ARG MAJOR=18

# Before the packages, which would make a user with another number: volumes hold files of 999.
RUN groupadd --system --gid 999 postgres \
    && useradd --system --uid 999 --gid postgres --home-dir /var/lib/postgresql --shell /bin/bash postgres

# postgresql-common first: told not to make a cluster of its own when the server comes.
RUN export DEBIAN_FRONTEND=noninteractive \
    && apt-get -qq update \
    && apt-get -qq install -y --no-install-recommends locales postgresql-common xz-utils zstd >/dev/null \
    && localedef -i en_US -c -f UTF-8 en_US.UTF-8 \
    && sed -i 's/^#\?create_main_cluster.*/create_main_cluster = false/' /etc/postgresql-common/createcluster.conf \
    && apt-get -qq install -y --no-install-recommends postgresql-${MAJOR} >/dev/null \
    && rm -rf /var/lib/apt/lists/* /var/log/* /etc/postgresql/${MAJOR} /var/lib/postgresql/${MAJOR}

ARG VOLUME=/var/lib/postgresql
# Other containers connect, so listen; and any user may be the one that runs it.
RUN sed -i "s/^#listen_addresses = .*/listen_addresses = '*'/" /usr/share/postgresql/${MAJOR}/postgresql.conf.sample \
    && grep -q "^listen_addresses = '\*'" /usr/share/postgresql/${MAJOR}/postgresql.conf.sample \
    && install -d -o postgres -g postgres -m 1777 /var/lib/postgresql "${VOLUME}" \
    && install -d -o postgres -g postgres -m 3777 /var/run/postgresql \
    && mkdir /docker-entrypoint-initdb.d

COPY postgres-entrypoint.sh /usr/local/bin/docker-entrypoint.sh
ARG PGDATA=/var/lib/postgresql/18/docker
ENV PATH=$PATH:/usr/lib/postgresql/${MAJOR}/bin LANG=en_US.utf8 PG_MAJOR=${MAJOR} PGDATA=${PGDATA}
VOLUME ${VOLUME}
EXPOSE 5432
# The fast stop: TERM would wait for every client to leave.
STOPSIGNAL SIGINT
ENTRYPOINT ["docker-entrypoint.sh"]
CMD ["postgres"]
ARG VERSION
ENV PG_VERSION=${VERSION}
