from chassis import server

server.configure(globals(), "served:create_app()")
