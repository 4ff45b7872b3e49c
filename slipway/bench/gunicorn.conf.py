import os

from chassis import server

server.configure(globals(), os.environ["APP"])
