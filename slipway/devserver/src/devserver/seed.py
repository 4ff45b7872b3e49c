"""`python -m devserver.seed`: sample data, by every module `seed` in the service's package.

Such a module has one function, `seed(session) -> int`, which adds what is not there yet and returns how
many rows it added; it commits nothing.
"""

import importlib
import os
import pkgutil
import sys
from collections.abc import Iterator
from types import ModuleType

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from chassis.db import waits
from chassis.db.engine import create_engine
from devserver import verbs


def main(service: str) -> None:
    engine = create_engine(verbs.settings("make seed"))
    modules = list(seeds(importlib.import_module(service)))
    for module in modules:
        try:
            with Session(engine) as session:
                added = module.seed(session)
                session.commit()
        except SQLAlchemyError as error:
            sys.exit(f"make seed: {module.__name__} failed, and added nothing: {waits.reason(error)}")
        print(f"{module.__name__.removesuffix('.seed')}: {f'{added} rows added' if added else 'all there already'}")
    if not modules:
        print(f"{service} has no sample data: write seed(session) in src/{service}/…/seed.py")


def seeds(package: ModuleType) -> Iterator[ModuleType]:
    for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        if found.name.endswith(".seed"):
            yield importlib.import_module(found.name)


if __name__ == "__main__":
    main(os.environ["SERVICE"])
