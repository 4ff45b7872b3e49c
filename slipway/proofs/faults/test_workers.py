"""A worker that dies, hangs or eats the memory is replaced while its siblings serve."""

import json
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest

from slipway.proofs.faults.injection import Load, kill, seconds_until, status
from slipway.proofs.harness import wait_until

pytestmark = [pytest.mark.containers, pytest.mark.alone]


@pytest.fixture
def replica(faulty):
    with unharmed(faulty, "web-a") as url:
        yield url


@pytest.fixture
def uwsgi(faulty):
    faulty.compose("--profile", "uwsgi", "up", "--build", "--detach", "--wait", "web-uwsgi")
    with unharmed(faulty, "web-uwsgi") as url:
        yield url


@contextmanager
def unharmed(faulty, service):
    """The address of a replica, which is ready before and afterwards without a restart."""
    url = faulty.url(service)
    wait_until("ready", lambda: status(url + "/health/ready") == 200)
    yield url
    wait_until("ready again, by itself", lambda: status(url + "/health/ready") == 200)
    assert faulty.container(service)["RestartCount"] == 0


def oom_score(pid):
    """The kernel kills the process with the highest score (proc_pid_oom_score(5))."""
    return int(Path(f"/proc/{pid}/oom_score").read_text())


def test_a_killed_worker_is_replaced_while_its_siblings_serve(faulty, replica, figures):
    before = faulty.workers("web-a")
    assert len(before) == 2
    with Load(replica + "/probe/pid", pause=0.05) as load:
        wait_until("some load", lambda: len(load.answers) > 20)
        kill(min(before))
        took = seconds_until("two workers again", lambda: len(faulty.workers("web-a")) == 2, 10)
    assert faulty.workers("web-a") != before
    assert load.errors <= 4  # what the dead worker was processing
    figures("a worker killed", load, recover=took)


def test_a_hung_request_is_ended_with_its_traceback_and_its_neighbours_finish(faulty, replica, figures):
    took, load = hang(faulty, "web-a", replica)
    figures("a request that hangs (limit 7 s)", load, recover=took)


def test_uwsgi_takes_its_options_ends_a_hung_request_and_outlives_one_that_eats_the_memory(faulty, uwsgi, figures):
    assert len(faulty.workers("web-uwsgi")) == 3  # UWSGI_PROCESSES
    took, load = hang(faulty, "web-uwsgi", uwsgi)
    figures("uWSGI: a request that hangs (limit 7 s)", load, recover=took)
    with Load(uwsgi + "/probe/rows", pause=0.05) as load:
        assert status(uwsgi + "/probe/eat") == 0
        took = seconds_until("three workers", lambda: len(faulty.workers("web-uwsgi")) == 3, 20)
    assert load.errors <= 8
    figures("uWSGI: out of memory by the container's limit", load, recover=took)


def hang(faulty, service, replica):
    """Seconds until a worker with a hung request was replaced, and the load meanwhile."""
    before, neighbours = faulty.workers(service), []
    threads = [threading.Thread(target=status, args=(replica + "/probe/hang",))]
    threads += [threading.Thread(target=lambda: neighbours.append(status(replica + "/probe/slow"))) for _ in range(4)]
    with Load(replica + "/probe/rows", pause=0.05) as load:
        for thread in threads:
            thread.start()
        took = seconds_until("another worker", lambda: faulty.workers(service) - before, 20)
    for thread in threads:
        thread.join(30)
    assert neighbours == [200] * 4
    assert load.errors <= 4
    entry = next(e for e in map(json.loads, faulty.log(service).splitlines()) if e["logger"] == "watchdog")
    assert entry["path"] == "/probe/hang"
    assert "probe.py" in entry["stack"]
    assert "in hang" in entry["stack"]
    return took, load


def test_a_worker_that_eats_the_memory_is_ended_by_the_kernel_and_the_container_lives(faulty, replica, figures):
    with Load(replica + "/probe/rows", pause=0.05) as load:
        assert status(replica + "/probe/eat") == 0
        took = seconds_until("two workers", lambda: len(faulty.workers("web-a")) == 2, 20)
    assert load.errors <= 8
    figures("out of memory by the container's limit", load, recover=took)


def test_where_memory_runs_out_the_kernel_ends_a_worker_before_the_master(faulty, replica):
    workers = faulty.parents("web-a")
    assert len(workers) == 2
    for worker, master in workers.items():
        assert oom_score(worker) > oom_score(master)


def test_a_request_that_kills_its_worker_is_not_sent_to_the_other_replica(faulty, replica):
    before = [faulty.workers("web-a"), faulty.workers("web-b")]
    with faulty.client() as client:
        # A deadline: where the disk is busy, the kernel takes its time until it finds that no memory can be reclaimed.
        answer = client.get("/probe/eat", headers={"Accept": "text/plain"}, timeout=60)
    assert answer.status_code == 502

    def replaced() -> list[bool]:
        now = [faulty.workers("web-a"), faulty.workers("web-b")]
        done = [len(workers) == 2 for workers in now] == [True, True] and now != before
        return [one != former for one, former in zip(now, before, strict=True)] if done else []

    assert wait_until("a worker in the dead one's place", replaced).count(True) == 1


def test_a_log_that_nobody_reads_blocks_no_request(faulty, figures):
    faulty.compose("--profile", "mute", "up", "--detach", "--wait", "web-mute")
    url = faulty.url("web-mute")
    assert len(faulty.workers("web-mute")) == 3  # GUNICORN_CMD_ARGS
    with Load(url + "/probe/echo?text=" + "x" * 500, pause=0, threads=8) as load:
        wait_until("a pipe filled many times over", lambda: len(load.answers) > 1500, 60)
    assert load.errors == 0
    assert load.slowest < 5
    assert faulty.log("web-mute") == ""
    figures("a log pipe that is not read", load)
