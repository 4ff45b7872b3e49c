"""Database sessions in an ASGI app: in threads, bounded, and never in the event loop."""

import asyncio
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from time import monotonic

import pytest
from sqlalchemy import text

from chassis.db.pool import Pool
from chassis.settings import Settings
from chassis.web.asgi import Chassis
from chassis.web.sessions import Session, in_session, session
from chassis_testing.asgi import Client
from slipway.chassis.tests.test_serving import wait_for

SLEEP = text("SELECT pg_sleep(:seconds)")


class App:
    """An ASGI app whose answer is what `view` returns."""

    async def __call__(self, scope, receive, send):
        if scope["type"] == "lifespan":
            while True:
                await send({"type": f"{(await receive())['type']}.complete"})
        body = str(await self.view()).encode()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body})


@pytest.fixture
def serve(settings: Settings) -> Iterator:
    """Starts an app with a view; returns its client."""
    clients = []

    def start(view, **changes) -> Client:
        app = App()
        app.view = view
        clients.append(Client(Chassis(app, replace(settings, **changes))))
        return clients[-1].__enter__()

    yield start
    for client in clients:
        client.__exit__()


def sleep(session: Session, seconds: float) -> str:
    session.execute(SLEEP, {"seconds": seconds})
    return threading.current_thread().name


def test_a_session_is_used_in_a_thread_and_its_statements_carry_the_requests_id(serve):
    def asked(session):
        return session.scalar(text("SELECT query FROM pg_stat_activity WHERE pid = pg_backend_pid()"))

    client = serve(lambda: in_session(asked))
    assert "request_id=an-id-of-mine" in client.get("/", headers={"X-Request-ID": "an-id-of-mine"}).text


def test_other_requests_are_answered_while_all_sessions_are_busy(serve):
    client = serve(lambda: in_session(sleep, 1.0), web_threads=2)

    async def both():
        busy = [asyncio.ensure_future(client.http.get("/")) for _ in range(4)]
        waits = []
        while not all(each.done() for each in busy):
            begun = monotonic()
            assert (await client.http.get("/health/live")).status_code == 200
            waits.append(monotonic() - begun)
            await asyncio.sleep(0.01)
        return waits, {each.result().status_code for each in busy}

    waits, codes = client.await_(both())
    assert codes == {200}
    assert max(waits) < 0.9
    assert len(waits) > 5


def test_a_request_that_gets_no_session_in_time_fails_without_a_thread(serve, caplog):
    client = serve(lambda: in_session(sleep, 1.0), web_threads=1, database_pool_timeout=0.2)

    async def two():
        return {answer.status_code for answer in await asyncio.gather(*(client.http.get("/") for _ in range(2)))}

    assert client.await_(two()) == {200, 500}  # a framework's handler makes it a 503
    assert "no session was free within 0.2 s" in caplog.text


def test_a_statement_in_the_event_loop_is_refused(serve, caplog):
    async def view():
        async for given in session():
            return given.scalar(text("SELECT 1"))

    assert serve(view).get("/").status_code == 500
    assert "a statement in the event loop" in caplog.text


def test_a_request_over_its_limit_ends_in_its_thread_too(serve):
    ended = threading.Event()

    def work(session):
        try:
            sleep(session, 5)
        finally:
            ended.set()

    client = serve(lambda: in_session(work), request_timeout=0.5)
    begun = monotonic()
    assert client.get("/").status_code == 500  # by its wait, and not 503, by the cancelled task
    assert monotonic() - begun < 4
    assert ended.is_set()


def test_what_computes_on_is_answered_and_its_session_comes_back(serve):
    finish = threading.Event()

    def work(session):
        finish.wait(10)
        return session.scalar(text("SELECT 1"))

    client = serve(lambda: in_session(work), request_timeout=0.2, web_threads=1)
    assert client.get("/").status_code == 503
    finish.set()
    client.app.app.view = lambda: in_session(sleep, 0)
    assert client.get("/").status_code == 200


def test_what_a_client_began_is_done_although_it_went_away(serve, settings):
    done = threading.Event()

    def work(session):
        sleep(session, 0.5)
        done.set()

    client = serve(lambda: in_session(work))

    async def leave():
        asked = asyncio.ensure_future(client.http.get("/"))
        await asyncio.sleep(0.2)
        asked.cancel()

    client.await_(leave())
    assert done.wait(5)


def test_a_closed_session_can_not_be_used_again(serve):
    kept = []

    async def view():
        async for given in session():
            kept.append(given)
        return await asyncio.to_thread(lambda: kept[0].scalar(text("SELECT 1")))

    assert serve(view).get("/").status_code == 500


def test_a_fork_shares_no_connection_and_the_stop_closes_all(serve):
    client = serve(lambda: in_session(sleep, 0))
    assert client.get("/").text.startswith("session")
    engine = client.app.database.engine
    assert engine.pool.checkedin() == 1
    if (child := os.fork()) == 0:
        os._exit(engine.pool.checkedin())
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    client.__exit__()
    assert engine.pool.checkedin() == 0


def test_readiness_asks_the_database_and_the_public_learns_a_word(serve):
    client = serve(lambda: in_session(sleep, 0))
    answer = client.get("/health/ready")
    assert {check["checker"] for check in answer.json()["results"]} == {"draining", "database"}
    assert client.get("/health/ready", headers={"X-Forwarded-For": "192.0.2.1"}).json() == {"status": "success"}
    assert client.get("/health/ready?for=traffic").json() == {"status": "success"}


def test_the_wait_for_a_turn_counts_as_one_for_a_connection(serve):
    def held(session: Session) -> str:
        """The first is held until the other waits, and for a moment more."""
        session.execute(text("SELECT 1"))
        if len(waits) == 1:
            wait_for(lambda: client.app.database.engine.pool.waiting)
            sleep(session, 0.3)
        return ""

    waits = []
    client = serve(lambda: in_session(held), web_threads=1)
    Pool.everywhere.append(lambda begun, ended, failure: waits.append(ended - begun))
    try:
        with ThreadPoolExecutor(2) as threads:
            assert all(answer.status_code == 200 for answer in threads.map(client.get, ["/", "/"]))
    finally:
        Pool.everywhere.pop()
    first, second = waits
    assert second >= 0.3
    assert second > first
