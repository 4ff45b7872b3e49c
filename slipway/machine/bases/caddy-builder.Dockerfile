# Stand-in for caddy:2-builder. The official image has Go and xcaddy, which gets Caddy and modules from a module proxy.
# This one has Debian's sources: a module may import the standard library, and what Caddy itself imports.

# Throw-away stage: in Debian a Go library is a package of sources, of which Caddy needs a tenth. Its source package
# lacks tracing, and brings the libraries that Debian lacks.
FROM slipway/debian:forky-slim AS sources
RUN sed 's/^deb /deb-src /' /etc/apt/sources.list >/etc/apt/sources.list.d/sources.list \
    && apt-get -qq update \
    && DEBIAN_FRONTEND=noninteractive apt-get -qq build-dep -y --arch-only --no-install-recommends caddy >/dev/null
# The two archives are what is needed of the source package; some mirrors have no others.
WORKDIR /go/src/github.com/caddyserver/caddy/v2
RUN { apt-get -qq source --download-only caddy || true; } \
    && echo caddy_*.orig.tar.gz | sed 's/caddy_/v/; s/.orig.*//' >/go/version \
    && tar -x --strip-components 1 -f caddy_*.orig.tar.gz && tar -x -f caddy_*.debian.tar.xz && rm caddy_* \
    && mv debian/missing-sources vendor && cp vendor/caddy/fileserver/browse.html modules/caddyhttp/fileserver/ \
    && sed -i /tracing/d modules/caddyhttp/standard/imports.go
ENV GO111MODULE=off GOFLAGS="-trimpath -tags=nobadger,nomysql,nopgx"
RUN export GOPATH=/go:/usr/share/gocode \
    && for kind in GoFiles CgoFiles SFiles HFiles EmbedFiles; do \
        go list -deps -f "{{range .$kind}}{{\$.Dir}}/{{.}}{{println}}{{end}}" ./modules/standard ./cmd; \
    done >/tmp/used \
    && find /usr/share/gocode -name go.mod >>/tmp/used \
    && cd /usr/share/gocode && sed -n "s,^$PWD/,,p" /tmp/used | xargs cp -L --parents --target-directory=/go

FROM slipway/debian:forky-slim
RUN export DEBIAN_FRONTEND=noninteractive \
    && apt-get -qq update \
    && apt-get -qq install -y --no-install-recommends golang-go libcap2-bin >/dev/null \
    && rm -rf /var/lib/apt/lists/* /var/log/*
COPY --from=sources /go /go
COPY xcaddy /usr/bin/xcaddy
ENV GO111MODULE=off GOFLAGS="-trimpath -tags=nobadger,nomysql,nopgx" GOPATH=/go GOCACHE=/go/cache
# Once without a module: what is compiled here need not be compiled with one.
RUN xcaddy build --output /tmp/caddy && /tmp/caddy version && rm /tmp/caddy
ENV XCADDY_SETCAP=1 XCADDY_SKIP_CLEANUP=1
WORKDIR /usr/bin
CMD ["xcaddy"]
ARG VERSION
ENV CADDY_VERSION=${VERSION}
