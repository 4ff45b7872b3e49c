"""What an app has besides its own pages: `setup.setup` gives it to a Flask app, `asgi.Chassis` to an ASGI app."""
