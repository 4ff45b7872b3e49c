"""The development server, `python -m devserver`: a save is served at once, the browser follows, errors become pages.

One process (`supervisor`) owns the port, watches the sources (`sources`) and has every library loaded. For each saved
state of the code it forks a child (`generation`): gunicorn as in production, with our own code imported again, behind a
layer (`layer`, `asgi`) that adds the live refresh and the error page, and tells the `inspector` what each request
did (`recording`). `program` restarts what serves nothing.

Only that command loads this package, and no production image contains it.
"""
