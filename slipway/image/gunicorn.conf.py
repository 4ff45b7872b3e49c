# Of the base image for Flask apps of other repositories.
from chassis.server.gunicorn import configure

configure(globals(), "chassis.web.wsgi:create_app()")
