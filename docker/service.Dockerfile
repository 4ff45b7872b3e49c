# One Dockerfile for every Python service:
#   docker build --build-arg SERVICE=web --file docker/service.Dockerfile .

ARG PYTHON=3.14
# A mirror's name with its slash, for places without Docker Hub.
ARG REGISTRY=

# What every stage shares: Python, the library that psycopg2 links to, an init process, and how the
# service starts, stops and says that it is well.
FROM ${REGISTRY}python:${PYTHON}-slim-trixie AS base
ENV PATH=/opt/venv/bin:$PATH \
    HOME=/tmp \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1
# The official image carries no bytecode: compiled once here, or at every start of every container.
# Nothing here has use for a setuid program.
RUN apt-get update \
 && apt-get install --yes --no-install-recommends libpq5 tini \
 && rm -rf /var/lib/apt/lists/* \
 && python -m compileall -q -j 0 -x '/(test|idlelib|ensurepip|site-packages|dist-packages)/' \
        "$(python -c 'import os; print(os.path.dirname(os.__file__))')" \
 && find / -xdev -type f -perm /6000 -exec chmod a-s {} +
ARG SERVICE
# A new library in libs/ goes on PYTHONPATH, too.
ENV SERVICE=$SERVICE \
    FLASK_APP=$SERVICE.app \
    PYTHONPATH=/app/services/$SERVICE/src:/app/libs/chassis/src
WORKDIR /app/services/$SERVICE
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s --start-interval=1s \
    CMD ["python", "-I", "-S", "/app/libs/chassis/src/chassis/probe.py"]
ENTRYPOINT ["tini", "--", "python", "-m", "chassis.entrypoint"]
CMD ["gunicorn"]

# Throw-away stage: the compiler and uv stay here.
FROM base AS build
RUN apt-get update \
 && apt-get install --yes --no-install-recommends gcc libc6-dev libpq-dev \
 && rm -rf /var/lib/apt/lists/*
RUN --mount=type=cache,target=/root/.cache/pip \
    pip install --root-user-action=ignore uv==0.13.8
ENV CFLAGS=-g0 \
    HOME=/root \
    UV_COMPILE_BYTECODE=1 \
    UV_FROZEN=1 \
    UV_LINK_MODE=copy \
    UV_PROJECT_ENVIRONMENT=/opt/venv \
    UV_PYTHON_DOWNLOADS=never \
    UV_SYSTEM_CERTS=1
WORKDIR /app
# Dependencies only, by the lock alone: an edit of the source leaves this layer as it is. uv leaves a
# lock file that anybody may write to, and wheels bring symbols that are a fifth of the whole.
RUN --mount=type=cache,target=/root/.cache/uv \
    --mount=type=bind,source=pyproject.toml,target=pyproject.toml \
    --mount=type=bind,source=uv.lock,target=uv.lock \
    uv sync --no-install-workspace --no-dev --package "$SERVICE" --extra source \
 && rm -f "$UV_PROJECT_ENVIRONMENT/.lock" \
 && find "$UV_PROJECT_ENVIRONMENT" -name '*.so' -exec strip --strip-unneeded {} +

# Development: no source in it, the repository is mounted over /app.
FROM base AS dev
COPY --link --from=build /opt/venv /opt/venv

# The source, compiled beside itself.
FROM base AS source
ARG SERVICE
COPY libs /app/libs
COPY services/$SERVICE /app/services/$SERVICE
RUN python -m compileall -q /app

# Production: no compiler, no uv, no tests, nothing that the app may write to.
FROM base AS runtime
ARG SERVICE
# Where compose mounts the volume of static files: a new one takes the directory's owner.
RUN install --directory --owner=10001 --group=10001 /srv/static
COPY --link --from=build /opt/venv /opt/venv
COPY --link --from=source /app /app
# A module that is missing fails the build, not the start.
RUN python -c "import $SERVICE.app, chassis.server, chassis.migrations"
USER 10001:10001
# Last, since they change with every commit; they add no layer.
ARG PYTHON
ARG REGISTRY
ARG VERSION=unversioned
ARG REVISION=unknown
ARG BUILT=unknown
ENV VERSION=$VERSION \
    REVISION=$REVISION \
    BUILT=$BUILT
LABEL org.opencontainers.image.base.name=${REGISTRY:-docker.io/library/}python:${PYTHON}-slim-trixie \
      org.opencontainers.image.title=$SERVICE \
      org.opencontainers.image.version=$VERSION \
      org.opencontainers.image.revision=$REVISION \
      org.opencontainers.image.created=$BUILT
