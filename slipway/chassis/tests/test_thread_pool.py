"""A worker's threads: quick requests share one, slow ones hold up no others."""

import io
import select
import selectors
import socket
import threading
from types import SimpleNamespace

import pytest
from gunicorn.workers.gthread import _DEFER

from chassis.server.thread_pool import LeaderPool

SOON = 10  # seconds, a deadline
NEVER = 3600.0  # seconds, of a turn or a rest


class Clients:
    """Connections of a pool whose requests are single bytes: what `answer` says to each is sent back."""

    def __init__(self, answer=lambda request: request, **options):
        self.answer, self.served, self.ended, self.sockets = answer, [], [], []
        self.pool = LeaderPool(handle=self.handle, done=self.done, **{"threads": 2, **options})

    def connect(self, initialized=False):
        ours, theirs = socket.socketpair()
        self.sockets += ours, theirs
        ours.settimeout(SOON)
        unread = SimpleNamespace(buf=io.BytesIO())
        connection = SimpleNamespace(
            sock=theirs,
            initialized=initialized,
            data_ready=False,
            parser=SimpleNamespace(unreader=unread),
            ended=threading.Event(),
        )
        self.pool.put(connection)
        return ours, connection

    def handle(self, connection):
        connection.initialized = True
        request = connection.parser.unreader.buf.read(1) or connection.sock.recv(1)
        connection.parser.unreader.buf = io.BytesIO(connection.parser.unreader.buf.read())
        self.served.append((request, threading.get_ident()))
        if not request:
            return False
        connection.sock.sendall(self.answer(request))
        return True

    def done(self, connection, outcome):
        self.ended.append((connection, outcome))
        connection.ended.set()


@pytest.fixture
def clients():
    made = []

    def make(*arguments, **options):
        made.append(Clients(*arguments, **options))
        return made[-1]

    yield make
    for each in made:
        each.pool.shutdown()
        for end in each.sockets:
            end.close()


def ask(client, request=b"a"):
    client.sendall(request)
    return client.recv(1)


def test_quick_requests_of_many_connections_share_one_thread(clients):
    served = clients(threads=4, turn=NEVER)
    connections = [served.connect()[0] for _ in range(20)]
    for _ in range(3):
        for client in connections:
            client.sendall(b"q")
        assert [client.recv(1) for client in connections] == [b"q"] * 20
    assert len({thread for _, thread in served.served}) == 1


def test_where_there_is_no_epoll_connections_are_served_all_the_same(clients, monkeypatch):
    monkeypatch.delattr(select, "epoll", raising=False)
    monkeypatch.setattr(selectors, "DefaultSelector", selectors.PollSelector)
    served = clients(turn=NEVER, rest=NEVER)
    for _ in range(3):  # with the same descriptors as those before
        connections = [served.connect() for _ in range(5)]
        for _ in range(2):
            assert [ask(client) for client, _ in connections] == [b"a"] * 5
        for client, connection in connections:
            client.close()
            assert connection.ended.wait(SOON)
            connection.sock.close()


def test_requests_are_served_in_the_order_in_which_they_came(clients):
    gate = threading.Event()
    served = clients(lambda request: gate.wait(SOON) and request, turn=NEVER)
    connections = [served.connect()[0] for _ in range(5)]
    connections[0].sendall(b"0")
    wait_for(lambda: served.served)
    for number in (3, 1, 4, 2):
        connections[number].sendall(b"%d" % number)
    gate.set()
    assert [client.recv(1) for client in connections] == [b"0", b"1", b"2", b"3", b"4"]
    assert b"".join(request for request, _ in served.served) == b"03142"


def test_a_request_that_takes_long_holds_up_nobody(clients):
    gate = threading.Event()
    served = clients(lambda request: request if request == b"q" else gate.wait(SOON) and request)
    slow, quick = served.connect()[0], served.connect()[0]
    slow.sendall(b"s")
    assert [ask(quick, b"q") for _ in range(3)] == [b"q"] * 3
    gate.set()
    assert slow.recv(1) == b"s"
    assert ask(slow, b"q") == b"q"  # and it is served as before


def test_as_many_slow_requests_as_threads_are_under_way_at_once(clients):
    together = threading.Barrier(4)
    served = clients(lambda request: str(together.wait(SOON)).encode(), threads=4)
    connections = [served.connect()[0] for _ in range(4)]
    for _ in range(3):
        for client in connections:
            client.sendall(b"s")
        assert sorted(client.recv(1) for client in connections) == [b"0", b"1", b"2", b"3"]


def test_a_request_that_says_it_will_wait_hands_over_at_once(clients):
    gate = threading.Event()

    def answer(request):
        if request == b"s":
            served.pool.hand_over()
            served.pool.hand_over()  # each wait says so
            gate.wait(SOON)
        return request

    served = clients(answer, turn=NEVER)
    slow, quick = served.connect()[0], served.connect()[0]
    slow.sendall(b"s")
    wait_for(lambda: served.served)
    assert ask(quick, b"q") == b"q"
    gate.set()
    assert slow.recv(1) == b"s"


def test_a_connection_that_sends_nothing_takes_no_thread(clients):
    served = clients(threads=1, turn=NEVER)
    for _ in range(3):
        served.connect()
    assert ask(served.connect()[0]) == b"a"


def test_a_new_connection_that_sends_nothing_is_given_back(clients):
    served = clients(rest=0.01)
    _, connection = served.connect()
    assert connection.ended.wait(SOON)
    assert served.ended[0][1].result() is _DEFER


def test_a_kept_connection_is_given_back_after_its_rest_and_served_when_it_is_put_again(clients):
    served = clients(rest=0.01)
    client, connection = served.connect()
    assert ask(client) == b"a"
    assert connection.ended.wait(SOON)
    assert served.ended[0][1].result() is True
    served.pool.put(connection)
    assert ask(client, b"b") == b"b"


def test_at_the_end_resting_connections_are_given_back_at_once(clients):
    served = clients(rest=NEVER)
    client, connection = served.connect()
    assert ask(client) == b"a"
    served.pool.let_go()
    assert connection.ended.wait(SOON)
    client.sendall(b"b")  # it was under way
    served.pool.put(connection)
    assert client.recv(1) == b"b"


def test_at_the_end_a_connection_that_waits_for_its_turn_without_a_request_takes_no_thread(clients):
    gate = threading.Event()
    served = clients(lambda request: gate.wait(SOON) and request, threads=1, turn=NEVER)
    served.connect()[0].sendall(b"s")
    wait_for(lambda: served.served)
    _, connection = served.connect(initialized=True)
    served.pool.let_go()
    gate.set()
    assert connection.ended.wait(SOON)
    assert len(served.served) == 1


def test_at_the_end_a_new_connection_may_still_send_its_request(clients):
    served = clients(rest=NEVER)
    client, _ = served.connect()
    served.pool.let_go()
    assert ask(client) == b"a"


def test_what_was_read_with_the_last_request_is_the_next_one(clients):
    served = clients()
    client, connection = served.connect()
    connection.parser.unreader.buf = io.BytesIO(b"xyz")
    assert ask(client, b"a") == b"x"
    assert client.recv(1) + client.recv(1) + client.recv(1) == b"yza"


def test_a_connection_that_its_client_closes_is_done(clients):
    served = clients(rest=NEVER)
    client, connection = served.connect()
    assert ask(client) == b"a"
    client.close()
    assert connection.ended.wait(SOON)
    assert served.ended[0][1].result() is False


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(1)])
def test_an_error_is_the_outcome_and_the_thread_goes_on(clients, error):
    def answer(request):
        if request == b"e":
            raise error
        return request

    served = clients(answer, threads=1)
    client, connection = served.connect()
    client.sendall(b"e")
    assert connection.ended.wait(SOON)
    assert served.ended[0][1].exception() is error
    assert ask(served.connect()[0]) == b"a"


def test_an_error_of_the_pools_own_costs_one_connection(clients, caplog):
    served = clients(threads=2)
    served.pool.done = lambda *outcome: 1 / 0
    served.connect()[0].close()
    wait_for(lambda: "a thread lost its connection" in caplog.text)
    assert ask(served.connect()[0]) == b"a"


def test_the_deputy_sleeps_while_nothing_happens_and_wakes_for_a_request(clients):
    gate = threading.Event()
    served = clients(lambda request: request if request == b"q" else gate.wait(SOON) and request, turn=0.001)
    slow, quick = served.connect()[0], served.connect()[0]
    assert ask(quick, b"q") == b"q"
    wait_for(lambda: not served.pool.busy.is_set())
    slow.sendall(b"s")
    assert ask(quick, b"q") == b"q"
    gate.set()
    assert slow.recv(1) == b"s"


def test_after_a_shutdown_no_thread_is_left(clients):
    before = set(threading.enumerate())
    served = clients(threads=4)
    assert ask(served.connect()[0]) == b"a"
    assert len(set(threading.enumerate()) - before) == 4
    served.pool.shutdown()
    wait_for(lambda: not set(threading.enumerate()) - before)


def wait_for(state):
    pause = threading.Event()
    for _ in range(SOON * 1000):
        if state():
            return
        pause.wait(0.001)
    raise AssertionError(f"not within {SOON} s")
