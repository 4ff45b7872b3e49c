"""Secrets that change while the app runs."""

import os
import threading
import time

import pytest
from flask import Flask, session
from sqlalchemy import text

from chassis.db.engine import create_engine
from chassis.settings import Settings
from chassis.settings.secret_file import INTERVAL, SecretFile
from chassis.web import security


@pytest.fixture
def key_file(tmp_path, monkeypatch):
    path = tmp_path / "secret_key"
    path.write_text("first-key\n")
    monkeypatch.setenv("SECRET_KEY_FILE", str(path))
    monkeypatch.setattr("chassis.settings.secret_file.INTERVAL", 0.0)
    return path


def change(path, text):
    """Changes the file in place, as a bind mount requires, and to a time that differs on any file system."""
    path.write_text(text)
    os.utime(path, ns=(time.time_ns(), path.stat().st_mtime_ns + 1))


def test_a_session_signed_with_the_former_key_is_still_read(key_file):
    environ = {"APP_ENV": "test", "SECRET_KEY_FILE": str(key_file), "DATABASE_HOST": "db"}
    app = Flask("sample")
    security.init_app(app, Settings.load(environ))
    app.add_url_rule("/set", "set", lambda: session.__setitem__("who", "me") or "ok")
    app.add_url_rule("/get", "get", lambda: session.get("who", "a stranger"))
    client = app.test_client()

    client.get("/set")
    change(key_file, "second-key\nfirst-key\n")
    assert client.get("/get").text == "me"
    assert app.secret_key == "second-key"

    change(key_file, "third-key\n")
    assert client.get("/get").text == "a stranger"


def test_an_empty_or_missing_file_changes_nothing(key_file):
    secret = SecretFile("SECRET_KEY", "default")
    assert secret.read() == "first-key"
    change(key_file, "")
    assert secret.read() == "first-key"
    key_file.unlink()
    assert secret.read() == "first-key"


def test_the_file_is_looked_at_once_a_second_at_the_most(key_file, monkeypatch):
    monkeypatch.setattr("chassis.settings.secret_file.INTERVAL", INTERVAL)
    secret = SecretFile("SECRET_KEY", "default")
    secret.read()
    change(key_file, "second-key\n")
    assert secret.read() == "first-key"
    assert secret.read(at_once=True) == "second-key"


def test_a_connection_opened_amid_a_password_change_waits_for_the_new_one(postgres, tmp_path, monkeypatch):
    address = postgres.create("rotated")
    path = tmp_path / "password"
    path.write_text(address.password)
    monkeypatch.setenv("DATABASE_PASSWORD_FILE", str(path))
    settings = Settings.load({"APP_ENV": "test", "SECRET_KEY": "k", "DATABASE_URL": address.url})
    engine = create_engine(settings)
    postgres.execute("ALTER ROLE rotated PASSWORD 'the-next-one'")
    writer = threading.Timer(0.3, change, (path, "the-next-one"))
    writer.start()
    with engine.connect() as connection:
        assert connection.execute(text("SELECT 1")).scalar() == 1
    writer.join()
