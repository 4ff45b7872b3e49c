"""What a release does once, before its first replica: `python -m chassis.release /srv/static`.

Its static files are laid where the proxy serves them from, then its migrations run. Without the
first it would still serve, the app sending its own files, so that only the second can stop it.
"""

import importlib.util
import logging
import os
import sys
from pathlib import Path

from chassis import logs, migrations, static

log = logging.getLogger("release")


def main(target: str) -> None:
    logs.configure_early()
    package = importlib.util.find_spec(os.environ["SERVICE"])
    try:
        new = static.publish(Path(package.origin).parent / "static", Path(target))
        log.info("static files published", extra={"new": new})
    except OSError as error:
        log.warning("static files can't be published, so that the app serves its own: %s", error)
    migrations.main(["upgrade"])


if __name__ == "__main__":
    main(sys.argv[1])
