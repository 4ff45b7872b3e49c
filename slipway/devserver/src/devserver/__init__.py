"""The development server, `python -m devserver`: a save is served at once, the browser follows, errors are pages.

One process (`supervisor`) owns the port, watches the sources (`sources`) and has every library loaded. For
each saved state of the code it forks one (`generation`): gunicorn as in production, with our own code
imported again, behind a layer (`layer`) that adds the live refresh, the error page and what the SQL took.
What serves nothing is restarted by `program`.

Loaded by nothing but that command, and in no production image.
"""
