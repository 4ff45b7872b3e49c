"""The smallest app that answers, with which the service's figures are compared."""

import os

import sqlalchemy
from flask import Flask
from sqlalchemy.orm import Session

app = Flask(__name__)
url = os.environ["DATABASE_URL"].replace("postgresql://", "postgresql+psycopg2://")
engine = sqlalchemy.create_engine(url, pool_size=8)


@app.get("/bench/hello")
def hello() -> str:
    return "hello"


@app.get("/bench/query")
def query() -> str:
    with Session(engine) as session:
        return session.execute(sqlalchemy.text("SELECT name FROM bench WHERE id = 1")).scalar()


@app.get("/health/ready")
def ready() -> str:
    return "for the proxy"
