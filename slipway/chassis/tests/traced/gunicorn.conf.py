from chassis.server.gunicorn import configure

configure(globals(), "traced:create_app()")
