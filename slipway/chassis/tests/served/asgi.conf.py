from chassis import server

server.configure(globals(), "served.asgi:create_app()", asgi=True)
