from chassis import server

server.configure(globals(), "web.app:create_app()")
