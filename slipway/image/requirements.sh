#!/bin/sh
# Installs into /opt/venv what the app's uv.lock or requirements.txt says, and what the chassis requires. If they
# contradict each other, uv says how, and the build fails.
set -eu

if [ -f uv.lock ]; then
    requirements=/tmp/requirements.txt
    uv export --quiet --no-default-groups --no-emit-workspace --output-file "$requirements" >/dev/null
elif [ -f requirements.txt ]; then
    requirements=requirements.txt
else
    echo "install-requirements: there is no uv.lock and no requirements.txt in $PWD. Mount one into this RUN:" \
         "--mount=source=requirements.txt,target=requirements.txt" >&2
    exit 1
fi
uv pip install --python /opt/venv --requirements "$requirements" \
    --requirements /usr/local/share/chassis/pyproject.toml --extra flask
# The lock file that uv leaves writable for any user; and one time for all files, so that the same packages are the
# same layer.
rm -f /opt/venv/.lock
find /opt -exec touch --no-dereference --date=@0 {} +
