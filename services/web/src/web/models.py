"""The base of every model: its metadata is what migrations are compared with."""

from sqlalchemy import MetaData
from sqlalchemy.orm import DeclarativeBase

from chassis.db.naming import NAMING


class Base(DeclarativeBase):
    metadata = MetaData(naming_convention=NAMING)
