# Stand-in for nginx:1.30. The official image is Debian, too, with nginx's own packages: no module that Debian adds is
# here, and the commands that its base brings (sh, perl, openssl) and that are installed beside it (curl, envsubst) are.

# Throw-away stage: the package would add a configuration and a service; only the program and its types are copied.
FROM slipway/debian:forky-slim AS package
RUN apt-get -qq update \
    && cd /tmp && apt-get -qq download nginx nginx-common && for each in *.deb; do dpkg -x "$each" /nginx; done

FROM slipway/debian:forky-slim
RUN export DEBIAN_FRONTEND=noninteractive \
    && apt-get -qq update \
    && apt-get -qq install -y --no-install-recommends curl gettext-base libcrypt1 libpcre2-8-0 libssl3t64 zlib1g >/dev/null \
    && rm -rf /var/lib/apt/lists/* /var/log/* \
    && mkdir -p /etc/nginx/conf.d /var/log/nginx /var/lib/nginx
COPY --from=package /nginx/usr/sbin/nginx /usr/sbin/nginx
COPY --from=package /nginx/etc/nginx/mime.types /etc/nginx/mime.types
EXPOSE 80
STOPSIGNAL SIGQUIT
CMD ["nginx", "-g", "daemon off;"]
ARG VERSION
ENV NGINX_VERSION=${VERSION}
