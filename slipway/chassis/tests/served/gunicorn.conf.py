from chassis.server.gunicorn import configure

configure(globals(), "served:create_app()")
