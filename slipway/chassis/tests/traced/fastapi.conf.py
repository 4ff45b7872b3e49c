from chassis.server.gunicorn import configure

configure(globals(), "traced.asgi:with_fastapi()", asgi=True)
