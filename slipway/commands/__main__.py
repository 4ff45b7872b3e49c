"""`python -m slipway.commands VERB name=value …`, which each recipe of the Makefile runs.

A verb is a function of the module named here; its words are passed as keyword arguments, without the empty ones. An
error that stops it is printed as one line, and the exit status is 1.
"""

import importlib
import signal
import sys

from slipway.commands.shared.stop import Stop

VERBS = {
    "backup":           "backup.backup",
    "capacity":         "capacity.capacity",
    "debug":            "dev.debug",
    "deploy":           "deploy.deploy",
    "dev":              "dev.dev",
    "docs":             "docs.write",
    "docs-check":       "docs.check",
    "doctor":           "doctor.doctor",
    "egress":           "egress.egress",
    "init":             "init.init",
    "kubernetes":       "kubernetes.kubernetes",
    "lint":             "lint.lint",
    "log-level":        "running.log_level",
    "migrate":          "one_off.migrate",
    "migration":        "one_off.migration",
    "prove":            "prove.prove",
    "proxy-reload":     "proxy_reload.proxy_reload",
    "ps":               "ps.ps",
    "psql":             "one_off.psql",
    "push":             "push.push",
    "remove-sample":    "remove_sample.remove_sample",
    "rename":           "rename.rename",
    "reset-db":         "one_off.reset_db",
    "restore":          "backup.restore",
    "rollback":         "deploy.rollback",
    "rotate-secret":    "rotate_secret.rotate_secret",
    "routes":           "one_off.routes",
    "run":              "one_off.run",
    "seed":             "one_off.seed",
    "service":          "service.service",
    "service-remove":   "service.service_remove",
    "service-update":   "service.service_update",
    "shell":            "one_off.shell",
    "stack":            "stack.stack",
    "stacks":           "running.stacks",
    "template-update":  "template_update.template_update",
    "up":               "up.up",
    "upgrade-postgres": "upgrade_postgres.upgrade_postgres",
}  # fmt: skip


def main(verb: str, *given: str) -> None:
    module, function = VERBS[verb].split(".")
    words = dict(word.split("=", 1) for word in given)
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # as nohup sets it
            signal.signal(number, lambda number, frame: sys.exit(128 + number))
    try:
        work = getattr(importlib.import_module(f"slipway.commands.{module}"), function)
        sys.exit(work(**{name: value.strip() for name, value in words.items() if value.strip()}))
    except Stop as stop:
        sys.exit(f"make {verb}: {str(stop).rstrip('.')}.")
    except OSError as error:
        sys.exit(f"make {verb}: {f'{error.filename}: ' if error.filename else ''}{error.strerror or error}.")
    except (KeyboardInterrupt, EOFError):
        sys.exit(f"\nmake {verb}: interrupted.")


if __name__ == "__main__":
    main(*sys.argv[1:])
