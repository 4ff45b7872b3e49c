# One Dockerfile for every Python service:
#   docker build --build-arg SERVICE=web --file docker/service.Dockerfile .

ARG PYTHON=3.14
# A mirror's name with a trailing slash, for machines without access to Docker Hub.
ARG REGISTRY=
# What runs by default: for web, an HTTP server of any framework; for worker and script, the service's main.py.
ARG KIND=web
# What serves web: gunicorn, or uwsgi.
ARG SERVER=gunicorn
# What the chassis may have besides, with spaces between: traces, sentry.
ARG EXTRAS=
# What the image is based on: full, or minimal, which has no shell and no package manager.
ARG VARIANT=full

# Python, the library that psycopg2 links to, and an init process.
FROM ${REGISTRY}python:${PYTHON}-slim-trixie AS full
ENV PATH=/opt/venv/bin:$PATH
# The official image contains no bytecode: without this, every container would compile at every start.
# Nothing here needs a setuid program. A new volume of static files takes the owner of the directory
# that compose mounts it on. Without logs and times, the same packages make the same layer on any machine.
RUN touch /started \
 && apt-get update \
 && apt-get install --yes --no-install-recommends libpq5 tini \
 && rm -rf /var/lib/apt/lists/* \
 && python -m compileall -q -j 0 -x '/(test|idlelib|ensurepip|site-packages|dist-packages)/' \
        "$(python -c 'import os; print(os.path.dirname(os.__file__))')" \
 && find / -xdev -type f -perm /6000 -exec chmod a-s {} + \
 && install --directory --owner=10001 --group=10001 /srv/static \
 && find /var/log /var/cache/ldconfig -type f -exec truncate --size=0 {} + \
 && find / -xdev -newer /started -exec touch --no-dereference --date=@0 {} + \
 && rm /started \
 && touch --date=@0 /

# What only builds need: the compiler and uv.
FROM full AS tools
RUN apt-get update \
 && apt-get install --yes --no-install-recommends gcc libc6-dev libpq-dev \
 && rm -rf /var/lib/apt/lists/*
RUN --mount=type=cache,target=/root/.cache/pip \
    pip install --root-user-action=ignore uv==0.13.8
ENV CFLAGS=-g0 \
    HOME=/root \
    PYC_INVALIDATION_MODE=UNCHECKED_HASH \
    UV_COMPILE_BYTECODE=1 \
    UV_FROZEN=1 \
    UV_LINK_MODE=copy \
    UV_PROJECT_ENVIRONMENT=/opt/venv \
    UV_PYTHON_DOWNLOADS=never \
    UV_SYSTEM_CERTS=1
WORKDIR /app

# Throw-away stage: the service's dependencies.
FROM tools AS build
ARG EXTRAS
ARG KIND
ARG SERVER
ARG SERVICE
# Dependencies only, from the lock alone: an edit of the source leaves this layer unchanged. Removed are the
# lock file that uv leaves writable for any user, the wheels' symbols, a fifth of the whole, and SQLAlchemy's
# dialects for databases that nothing here uses. libs.pth lets Python find every library in libs/.
# All files have the same time, so that services with the same dependencies share one layer.
# An SSH agent, known hosts and logins are there where compose names them, and stay in no layer: docs/services.md.
RUN --mount=type=cache,target=/root/.cache/uv \
    --mount=type=ssh \
    --mount=type=secret,id=known_hosts,target=/root/.ssh/known_hosts \
    --mount=type=secret,id=netrc,target=/root/.netrc \
    --mount=type=bind,source=pyproject.toml,target=pyproject.toml \
    --mount=type=bind,source=uv.lock,target=uv.lock \
    uv sync --no-install-workspace --no-dev --package "$SERVICE" --extra source \
 && if [ "$KIND $SERVER" = "web uwsgi" ]; then \
        uv sync --no-install-workspace --no-dev --package chassis --extra uwsgi --inexact; \
    fi \
 && for extra in $EXTRAS; do \
        uv sync --no-install-workspace --no-dev --package chassis --extra "$extra" --inexact; \
    done \
 && rm -f "$UV_PROJECT_ENVIRONMENT/.lock" \
 && find "$UV_PROJECT_ENVIRONMENT" -name '*.so' -exec strip --strip-unneeded {} + \
 && for other in mssql mysql oracle sqlite; do \
        rm -rf "$UV_PROJECT_ENVIRONMENT"/lib/*/site-packages/sqlalchemy/dialects/$other; \
    done \
 && echo 'import os, sys; sys.path += [f"{e.path}/src" for e in os.scandir("/app/libs")] if os.path.isdir("/app/libs") else []' \
        > "$(echo "$UV_PROJECT_ENVIRONMENT"/lib/python*/site-packages)/libs.pth" \
 && find /opt -exec touch --no-dereference --date=@0 {} +

# For the minimal variant: what a service loads, copied to an empty root. A third of the size.
FROM build AS selection
RUN --mount=type=bind,source=slipway/image/minimal.py,target=/minimal.py \
    python /minimal.py /selected

FROM scratch AS minimal
COPY --link --from=selection /selected /
ENV PATH=/opt/venv/bin:/usr/local/bin:/usr/bin

# How the service starts, stops and reports its health, on either variant.
# hadolint ignore=DL3006
FROM ${VARIANT} AS base
ARG SERVICE
ENV SERVICE=$SERVICE \
    HOME=/tmp \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    FLASK_APP=$SERVICE.app \
    PYTHONPATH=/app/services/$SERVICE/src:/app/slipway/chassis/src
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s --start-interval=0.25s \
    CMD ["python", "-I", "-S", "/app/slipway/chassis/src/chassis/process/probe.py"]
# -P: whatever the working directory holds, the modules are those of the image.
ENTRYPOINT ["tini", "--", "python", "-P", "-m", "chassis.process.entrypoint"]
# In place of CMD, which the arguments of `docker run` replace: the entrypoint puts it before options.
ENV DEFAULT_COMMAND=gunicorn

# What development adds: the debugger, and the libraries for error pages.
FROM build AS build-dev
RUN --mount=type=cache,target=/root/.cache/uv \
    --mount=type=secret,id=netrc,target=/root/.netrc \
    --mount=type=bind,source=pyproject.toml,target=pyproject.toml \
    --mount=type=bind,source=uv.lock,target=uv.lock \
    uv sync --no-install-workspace --no-dev --package devserver --inexact

# Development: no source in it, the repository is mounted over /app.
FROM base AS dev
ARG SERVICE
COPY --link --from=build-dev /opt/venv /opt/venv
ENV PYTHONPATH=$PYTHONPATH:/app/slipway/devserver/src
WORKDIR /app/services/$SERVICE

# Every service's libraries, compiled in place, once for all services: the chassis, and those of libs/, a folder
# that may not exist yet. COPY needs at least one source that exists, hence source.py.
FROM full AS libs
COPY slipway/chassis/src /libs/app/slipway/chassis/src
COPY slipway/image/source.py lib[s] /libs/app/libs/
# The CA of a Postgres elsewhere, if there is one: docs/deploy.md.
COPY docke[r]/database_ca.cr[t] /libs/app/
RUN --network=none \
    mv /libs/app/libs/source.py / \
 && python /source.py /libs

# The service's folder, created once: WORKDIR would create it again, with a new time, for every new dependency.
FROM full AS place
ARG SERVICE
RUN mkdir -p /place/app/services/$SERVICE \
 && find /place -exec touch --date=@0 {} +

# The source, compiled in place; code that can't be imported fails the build, not the start. It contains no dependency,
# and each tree has its own root: copied to /, its folders keep their times, so that a new dependency leaves these layers
# unchanged. Without a network, the build's container starts in half the time.
FROM base AS source
ARG SERVICE
# First what every service imports at its start: an edit of one service does not repeat this step.
RUN --network=none \
    --mount=from=build,source=/opt/venv,target=/opt/venv \
    --mount=from=libs,source=/libs/app,target=/app \
    ["python", "-c", "import chassis.server.gunicorn, chassis.server.uwsgi, chassis.process.release, chassis.process.worker"]
COPY services/$SERVICE /services/app/services/$SERVICE
RUN --network=none \
    --mount=from=build,source=/opt/venv,target=/opt/venv \
    --mount=from=libs,source=/libs/app,target=/app \
    --mount=type=bind,source=slipway/image/source.py,target=/source.py \
    ["python", "/source.py", "/services"]

# Production: no compiler, no uv, no tests, nothing that the app may write to.
FROM base AS runtime
ARG SERVICE
COPY --link --from=build /opt /opt
COPY --link --from=libs /libs /
# From here on, each service's layers are its own.
COPY --link --from=place /place /
WORKDIR /app/services/$SERVICE
COPY --link --from=source /services /
USER 10001:10001
# Last, since they change with every commit; they add no layer.
ARG PYTHON
ARG REGISTRY
ARG VERSION=unversioned
ARG REVISION=unknown
ARG BUILT=unknown
ARG SOURCE=
ARG LICENSES=MIT
ARG DESCRIPTION=
ARG AUTHORS=
ENV VERSION=$VERSION \
    REVISION=$REVISION \
    BUILT=$BUILT
LABEL org.opencontainers.image.base.name=${REGISTRY:-docker.io/library/}python:${PYTHON}-slim-trixie \
      org.opencontainers.image.title=$SERVICE \
      org.opencontainers.image.version=$VERSION \
      org.opencontainers.image.revision=$REVISION \
      org.opencontainers.image.created=$BUILT \
      org.opencontainers.image.source=$SOURCE \
      org.opencontainers.image.licenses=$LICENSES \
      org.opencontainers.image.description=$DESCRIPTION \
      org.opencontainers.image.authors=$AUTHORS

FROM runtime AS gunicorn

FROM runtime AS uwsgi
ENV DEFAULT_COMMAND="python -m chassis.server.uwsgi"

# hadolint ignore=DL3006
FROM ${SERVER} AS web

FROM runtime AS script
HEALTHCHECK NONE
ENV DEFAULT_COMMAND="python -m chassis.process.worker"

FROM runtime AS worker
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s --start-interval=0.25s \
    CMD ["python", "-I", "-S", "/app/slipway/chassis/src/chassis/process/heartbeat.py"]
ENV DEFAULT_COMMAND="python -m chassis.process.worker"

# Two images for Flask apps of other repositories (docs/services.md). This one installs what an app requires, beside what
# the chassis requires, which is here in the lock's versions.
FROM tools AS build-image
ARG EXTRAS
RUN --mount=type=cache,target=/root/.cache/uv \
    --mount=type=bind,source=pyproject.toml,target=pyproject.toml \
    --mount=type=bind,source=uv.lock,target=uv.lock \
    for extra in flask $EXTRAS; do \
        uv sync --no-install-workspace --no-dev --package chassis --extra "$extra" --inexact; \
    done
COPY slipway/chassis/pyproject.toml /usr/local/share/chassis/
COPY slipway/image/requirements.sh /usr/local/bin/install-requirements

# And this one runs it, with the app in /app.
FROM base AS base-image
ENV DEFAULT_COMMAND="gunicorn --config /app/slipway/gunicorn.conf.py" \
    SERVICE= \
    FLASK_APP= \
    PYTHONPATH=/app:/app/slipway/chassis/src
COPY --link --from=libs /libs /
COPY slipway/image/gunicorn.conf.py /app/slipway/
WORKDIR /app
USER 10001:10001

# hadolint ignore=DL3006
FROM ${KIND}
