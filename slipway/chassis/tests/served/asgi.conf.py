from chassis.server.gunicorn import configure

configure(globals(), "served.asgi:create_app()", asgi=True)
