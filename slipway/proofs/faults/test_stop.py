"""Stopping: nothing in flight is cut, readiness changes first, and a second signal stops at once."""

import threading
import time
from datetime import datetime

import httpx
import pytest

from slipway.proofs.faults.injection import status
from slipway.proofs.harness import wait_until

pytestmark = [pytest.mark.containers, pytest.mark.alone]

DRAIN = 1.0  # seconds, as in faults.yaml


@pytest.fixture
def replica(faulty):
    """web-a, serving; started again afterwards, since the test stops it."""
    faulty.start("web-a")
    yield faulty.url("web-a")
    faulty.start("web-a")


def signal(stack, name):
    stack.run("docker", "kill", "--signal", name, stack.container("web-a")["Id"])


def ended(stack):
    return stack.container("web-a")["State"]["Status"] == "exited"


def seconds_to_end(stack, begun):
    """By the engine's own clock, since querying it takes a while on a busy machine."""
    wait_until("the end", lambda: ended(stack), 15)
    finished = stack.container("web-a")["State"]["FinishedAt"]  # nanoseconds, which datetime can't parse
    return datetime.fromisoformat(finished[:26] + "+00:00").timestamp() - begun


def in_flight(url, count):
    """Starts slow requests; returns the list of their answers once the server has received all of them."""
    answers, began = [], threading.Barrier(count + 1)

    def ask():
        began.wait()
        answers.append(status(url + "/probe/slow"))

    threads = [threading.Thread(target=ask) for _ in range(count)]
    for thread in threads:
        thread.start()
    began.wait()
    return threads, answers


def connections(stack):
    """Open TCP connections to the server's port, from the kernel's table in its container."""
    count = "import re; print(len(re.findall(r':1F40 \\S+ 01 ', open('/proc/net/tcp').read())))"
    return int(stack.compose("exec", "-T", "web-a", "python", "-c", count).stdout)


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_every_request_in_flight_is_finished(faulty, replica, figures, name):
    threads, answers = in_flight(replica, 20)
    wait_until("20 requests at the server", lambda: connections(faulty) >= 20)
    signal(faulty, name)
    for thread in threads:
        thread.join(30)
    assert answers == [200] * 20
    wait_until("the end", lambda: ended(faulty), 15)
    assert faulty.container("web-a")["State"]["ExitCode"] == 0
    figures(f"{name}, 20 requests of 3 s in flight", errors=0, requests=20)


def test_readiness_turns_503_while_the_listener_still_accepts(faulty, replica):
    wait_until("ready", lambda: status(replica + "/health/ready") == 200)
    signal(faulty, "SIGTERM")
    seen = []
    while (code := status(replica + "/health/ready")) or not seen:
        seen.append((code, status(replica + "/probe/rows"), status(replica + "/health/live")))
    turned = next(index for index, (ready, _, _) in enumerate(seen) if ready == 503)
    draining = seen[turned:]
    assert len(draining) > 3
    # All but the last, which the closing listener may have caught between two requests.
    assert {(rows, live) for _, rows, live in draining[:-1]} == {(200, 200)}
    wait_until("the end", lambda: ended(faulty), 15)


def test_an_idle_replica_stops_within_a_second_of_the_drain(faulty, replica, figures):
    begun = time.time()
    signal(faulty, "SIGTERM")
    took = seconds_to_end(faulty, begun)
    assert took < DRAIN + 1
    assert faulty.container("web-a")["State"]["ExitCode"] == 0
    figures("SIGTERM, idle: seconds over the drain", recover=took - DRAIN)


def test_a_second_sigterm_stops_at_once(faulty, replica):
    threads, _ = in_flight(replica, 4)
    wait_until("4 requests at the server", lambda: connections(faulty) >= 4)
    signal(faulty, "SIGTERM")
    begun = time.time()
    signal(faulty, "SIGTERM")
    assert seconds_to_end(faulty, begun) < 1.0
    for thread in threads:
        thread.join(30)


def test_orphans_are_reaped(faulty, replica):
    orphan = "import os, time\nif os.fork() == 0:\n    time.sleep(0.1)\n    os._exit(0)\nos._exit(0)"
    faulty.compose("exec", "-T", "web-a", "python", "-c", orphan)
    zombies = lambda: " Z" in faulty.run("docker", "top", faulty.container("web-a")["Id"], "-eo", "pid,stat").stdout  # noqa: E731
    wait_until("no zombie", lambda: not zombies())
    assert httpx.get(replica + "/health/live", trust_env=False).status_code == 200
