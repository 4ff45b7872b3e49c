# Stand-in for python:3.14-slim-trixie: Debian's CPython, moved to where the official image has its own build,
# /usr/local, so that paths, `pip install` and virtual environments behave the same.
# Differs: python is linked statically (no libpython3.14.so for programs that embed it); no tkinter, no idle.

# Throw-away stage: Debian's packages are unpacked here, and only /usr/local goes on.
FROM slipway/debian:forky-slim AS transplant
RUN apt-get -qq update \
    && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends \
        python3.14-dev python3.14-venv python3-pip-whl >/dev/null

# The interpreter finds its prefix by looking for lib/python3.14 above itself, so a move is enough. Debian keeps
# pyconfig.h apart, for machines of two architectures.
RUN cp /usr/bin/python3.14 /usr/local/bin/ \
    && cp -a /usr/lib/python3.14 /usr/local/lib/ \
    && cp -a /usr/include/python3.14 /usr/local/include/ \
    && cp /usr/include/*-linux-gnu/python3.14/pyconfig.h /usr/local/include/python3.14/

# Reverts what Debian changed in the library: the marker that stops pip, dist-packages for site-packages,
# no ensurepip outside of a virtual environment, its wheel from elsewhere, and the prefix and compiler's name.
WORKDIR /usr/local/lib/python3.14
RUN set -eu; \
    rm -rf EXTERNALLY-MANAGED sitecustomize.py _distutils_system_mod.py test config-*/*.a config-*/*.so config-*/*.o; \
    sed -i -e '/is_virtual_environment =/d' -e '/if is_virtual_environment:/,/deprecated for Debian/d' \
        -e 's/"dist-packages"/"site-packages"/' site.py; \
    sed -i -e "s/'posix_local')/'posix_prefix')/" -e "s/= 'posix_local'/= 'posix_prefix'/" \
        -e "/^    '\(deb_system\|posix_local\)': {/,/^        },/d" \
        -e "s/'posix_home', 'posix_local', 'deb_system')/'posix_home')/" sysconfig/__init__.py; \
    mkdir ensurepip/_bundled; \
    cp /usr/share/python-wheels/pip-*.whl ensurepip/_bundled/; \
    wheel=$(basename ensurepip/_bundled/pip-*.whl -py3-none-any.whl); \
    sed -i -e '/^    _ensurepip_is_disabled_in_debian_for_system()/d' \
        -e "s/^_PIP_VERSION = .*/_PIP_VERSION = \"${wheel#pip-}\"/" ensurepip/__init__.py; \
    sed -i -E -e "s#(['\"])/usr(/bin|/include|/include/python3.14|/lib|/lib/python3.14[^'\"]*)?(['\"])#\1/usr/local\2\3#" \
        -e "s#/usr/share/python-wheels/##" -e "s#[a-z0-9_]+-linux-gnu-(gcc|g\+\+)#\1#g" \
        _sysconfigdata__linux_*.py _sysconfig*.json

# `site` is also frozen into the interpreter, so the corrected one takes its place there (padded to the same length).
RUN /usr/bin/python3.14 <<'EOF'
import _imp, marshal, pathlib
interpreter = pathlib.Path("/usr/local/bin/python3.14")
frozen = bytes(_imp.find_frozen("site", withdata=True)[0])
corrected = marshal.dumps(compile(pathlib.Path("site.py").read_bytes(), "<frozen site>", "exec"))
program = interpreter.read_bytes()
assert program.count(frozen) == 1 and len(corrected) <= len(frozen)
interpreter.write_bytes(program.replace(frozen, corrected.ljust(len(frozen), b"\0")))
EOF

# Like the official image, without bytecode: that is left to its users. The last line is the smoke test.
RUN ln -s python3.14 /usr/local/bin/python3 \
    && ln -s python3 /usr/local/bin/python \
    && PYTHONDONTWRITEBYTECODE=1 python3 -m ensurepip --default-pip >/dev/null \
    && find /usr/local -name __pycache__ -prune -exec rm -rf {} + \
    && python3 -IBc 'import pip, site; assert site.getsitepackages() == ["/usr/local/lib/python3.14/site-packages"]'

# The packages that own the libraries that python and its modules are linked with.
RUN find /usr/local/bin/python3.14 lib-dynload -type f -exec ldd {} + \
    | awk '$2 == "=>" {print $3}' | sort -u | xargs -r realpath | xargs dpkg-query --search \
    | cut -d: -f1 | sort -u > /libraries

FROM slipway/debian:forky-slim
RUN --mount=from=transplant,source=/libraries,target=/libraries \
    apt-get -qq update \
    && DEBIAN_FRONTEND=noninteractive xargs apt-get -qq install -y --no-install-recommends < /libraries >/dev/null \
    && rm -rf /var/lib/apt/lists/* /var/log/*
COPY --from=transplant /usr/local /usr/local
# uv includes its own list of authorities; this makes it trust the system's, which contains the host's own.
RUN mkdir /etc/uv && echo 'system-certs = true' > /etc/uv/uv.toml
ENV PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8
CMD ["python3"]
ARG VERSION
ENV PYTHON_VERSION=${VERSION}
