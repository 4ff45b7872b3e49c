# Stand-in for haproxy:3.2. The official image is Debian, too, with HAProxy in /usr/local: the same user, signal, paths and
# entrypoint.

# Throw-away stage: the package would add a user, a service and a configuration; only the program is copied.
FROM slipway/debian:forky-slim AS package
RUN apt-get -qq update && cd /tmp && apt-get -qq download haproxy && dpkg -x haproxy_*.deb /haproxy

FROM slipway/debian:forky-slim
RUN export DEBIAN_FRONTEND=noninteractive \
    && apt-get -qq update \
    && apt-get -qq install -y --no-install-recommends \
        libcrypt1 libjemalloc2 liblua5.4-0 libopentracing-c-wrapper0t64 libpcre2-8-0 libssl3t64 >/dev/null \
    && rm -rf /var/lib/apt/lists/* /var/log/* \
    && groupadd --gid 99 --system haproxy \
    && useradd --gid haproxy --home-dir /var/lib/haproxy --no-create-home --system --uid 99 haproxy \
    && mkdir -p /usr/local/etc/haproxy /var/lib/haproxy \
    && chown haproxy:haproxy /var/lib/haproxy
COPY --from=package /haproxy/usr/sbin/haproxy /usr/local/sbin/haproxy
COPY haproxy-entrypoint.sh /usr/local/bin/docker-entrypoint.sh
STOPSIGNAL SIGUSR1
ENTRYPOINT ["docker-entrypoint.sh"]
USER 99
WORKDIR /var/lib/haproxy
CMD ["haproxy", "-f", "/usr/local/etc/haproxy/haproxy.cfg"]
ARG VERSION
ENV HAPROXY_VERSION=${VERSION}
