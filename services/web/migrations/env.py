"""Alembic's environment. Importing the app imports every model, so that Base knows every table."""

import web.app  # noqa: F401
from chassis.db import migrations
from web.models import Base

migrations.run(Base.metadata)
