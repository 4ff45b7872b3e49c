import os

from chassis.server.gunicorn import configure

configure(globals(), os.environ["APP"])
