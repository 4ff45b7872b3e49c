from chassis.server.gunicorn import configure

configure(globals(), "traced.asgi:with_sanic()", asgi=True)
