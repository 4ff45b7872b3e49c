# Stand-in for the images of Prometheus, its Alertmanager and its exporters. The official ones are busybox with one
# program in /bin, which runs as nobody. This one is Debian with the same commands at hand.
ARG PACKAGE

# Throw-away stage: the package would add a user and a service; only the program is copied, with promtool.
FROM slipway/debian:forky-slim AS package
ARG PACKAGE
RUN apt-get -qq update \
    && cd /tmp && apt-get -qq download "$PACKAGE" promtool \
    && for each in *.deb; do dpkg -x "$each" /package; done \
    && mkdir -p /package/usr/share/prometheus && cd /package/usr/bin && mkdir /programs && for each in *; do \
        mv "$each" "/programs/$(echo "$each" | sed '/-/{s/^prometheus-//;s/-/_/}')"; done

FROM slipway/debian:forky-slim
ARG PACKAGE
ARG PROGRAM
RUN export DEBIAN_FRONTEND=noninteractive \
    && apt-get -qq update \
    && apt-get -qq install -y --no-install-recommends busybox >/dev/null \
    && rm -rf /var/lib/apt/lists/* /var/log/* /usr/bin/bash \
    && ln -s busybox /usr/bin/wget \
    && ln -s "$PROGRAM" /usr/bin/program \
    && mkdir /prometheus /alertmanager \
    && chown nobody:nogroup /prometheus /alertmanager
COPY --from=package /programs /usr/bin
COPY --from=package /package/usr/share/prometheus /usr/share/prometheus
USER 65534
ENTRYPOINT ["/bin/program"]
ARG VERSION
ENV VERSION=${VERSION}
