"""What a release does once, before its first replica: `python -m chassis.process.release /srv/static`.

It publishes its static files where the proxy serves them from, then runs its migrations. If publishing fails, the app
still serves its own files, so only a failed migration stops the release, or a UI that was not built for it.
"""

import logging
import os
import sys

from chassis.observe.exits import CONFIG, fail, settings_or_exit
from chassis.web import bundle, publish

log = logging.getLogger("release")


def main(root: str) -> None:
    settings, service = settings_or_exit(), os.environ["SERVICE"]
    package = publish.package(service)
    if bundle.has_project(package) and not (package / "app.py").exists():  # a UI alone, which can't serve without
        try:
            bundle.check(bundle.built(package), settings.url_prefix)
        except bundle.BundleError as error:
            fail(CONFIG, str(error))
    try:
        new = publish.main(root, service, settings.url_prefix)
        log.info("static files published", extra={"new": new})
    except OSError as error:
        log.warning("static files can't be published, so the app serves its own: %s", error)
    if settings.uses_database:
        from chassis.db import migrations

        migrations.main(["upgrade"])


if __name__ == "__main__":
    main(sys.argv[1])
