"""A worker, and with an argument a script."""

import sqlalchemy

from chassis.db.engine import create_engine
from chassis.process import worker


def main(settings, arguments):
    engine = create_engine(settings)
    if arguments:
        with engine.connect() as connection:
            connection.execute(sqlalchemy.text("SELECT 'script'"))
        raise LookupError("no such month")
    for number in worker.every(0.01):
        with engine.connect() as connection:
            connection.execute(sqlalchemy.text("SELECT 'round'"))
        if number == 3:
            raise LookupError("no such month")
