# Stand-in for caddy:2. The official image is Alpine: busybox (sh, wget, nc, no bash, no curl) and musl. This one is
# Debian with the same commands at hand, so that a health check or a script that works here works there.

# Throw-away stage: the package would add a user and a service; only its files are copied. The capability, as in the
# official image: a user who is not root binds :80, and where `cap_drop: ALL` takes it away the program does not start.
FROM slipway/debian:forky-slim AS package
RUN apt-get -qq update \
    && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends libcap2-bin >/dev/null \
    && cd /tmp && apt-get -qq download caddy && dpkg -x caddy_*.deb /caddy \
    && setcap cap_net_bind_service=+ep /caddy/usr/bin/caddy

FROM slipway/debian:forky-slim
RUN export DEBIAN_FRONTEND=noninteractive \
    && apt-get -qq update \
    && apt-get -qq install -y --no-install-recommends busybox media-types >/dev/null \
    && rm -rf /var/lib/apt/lists/* /var/log/* /usr/bin/bash \
    && for applet in wget nc ps vi; do ln -s busybox /usr/bin/$applet; done \
    && mkdir -p /config/caddy /data/caddy
COPY --from=package /caddy/usr/bin/caddy /usr/bin/caddy
COPY --from=package /caddy/usr/share/caddy /usr/share/caddy
COPY --from=package /caddy/etc/caddy/Caddyfile /etc/caddy/Caddyfile
ENV XDG_CONFIG_HOME=/config XDG_DATA_HOME=/data
EXPOSE 80 443 443/udp 2019
WORKDIR /srv
CMD ["caddy", "run", "--config", "/etc/caddy/Caddyfile", "--adapter", "caddyfile"]
ARG VERSION
ENV CADDY_VERSION=${VERSION}
