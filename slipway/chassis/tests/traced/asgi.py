"""The same in part, as ASGI apps."""

import sanic
from fastapi import FastAPI
from sqlalchemy import text

from chassis.web import fastapi
from chassis.web import sanic as ours
from chassis.web.sessions import Session, in_session
from traced.settings import Settings


def find(session: Session, name: str) -> str:
    session.execute(text("SELECT pg_sleep(0.01)"))
    return session.scalars(text("SELECT :name"), {"name": name}).one()


def with_fastapi():
    app = FastAPI()

    @app.get("/people/{name}")
    async def people(name: str):
        return await in_session(lambda session: find(session, name))

    @app.get("/broken/{name}")
    async def broken(name: str):
        raise ZeroDivisionError("no such number")

    return fastapi.setup(app, Settings.load())


def with_sanic():
    app = sanic.Sanic("traced", configure_logging=False)
    chassis = ours.setup(app, Settings.load())

    @app.get("/people/<name>")
    async def people(request, name):
        return sanic.text(await in_session(lambda session: find(session, name)))

    @app.get("/broken/<name>")
    async def broken(request, name):
        raise ZeroDivisionError("no such number")

    return chassis
