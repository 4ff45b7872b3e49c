from chassis.server.gunicorn import configure

configure(globals(), "web.app:create_app()")
