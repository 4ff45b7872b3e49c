"""What a release does once, before its first replica: `python -m chassis.process.release /srv/static`.

It publishes its static files where the proxy serves them from, then runs its migrations. If publishing fails, the app
still serves its own files, so only a failed migration stops the release.
"""

import logging
import os
import sys
from pathlib import Path

from chassis.observe.exits import settings_or_exit
from chassis.web import publish

log = logging.getLogger("release")


def main(root: str) -> None:
    settings, service = settings_or_exit(), os.environ["SERVICE"]
    package = publish.package(service)
    # Each service's folder holds the paths of its URLs.
    target = Path(f"{root}/{service}{settings.url_prefix}/static")
    try:
        new = publish.publish({"": package / "static", "chassis": publish.OWN}, target)
        log.info("static files published", extra={"new": new})
    except OSError as error:
        log.warning("static files can't be published, so the app serves its own: %s", error)
    if settings.uses_database:
        from chassis.db import migrations

        migrations.main(["upgrade"])


if __name__ == "__main__":
    main(sys.argv[1])
