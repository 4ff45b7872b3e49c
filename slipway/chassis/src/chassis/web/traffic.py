"""`/health/ready?for=traffic`: tells the proxy whether this replica should get requests.

It should if it is ready. It also should if all that it lacks is a database that its peers can't reach either: then it
serves the pages that need no database, and the others wait for a restart, or get the app's own 503. A replica that is
cut off alone gets no requests, and neither does a release that was never ready.

It is a query and not a route of its own, so that a former release, which a rollback brings back, takes it for plain
readiness. The proxy waits for one second, and Postgres may keep every thread waiting, so a separate thread checks, too.
"""

import http.client
import mmap
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from time import monotonic, sleep

from chassis.db.absence import Absence
from chassis.observe import routes
from chassis.server import drain
from chassis.settings import Settings
from chassis.web.checks import Bounded, Unanswered

ANSWER = 0.8  # seconds that a probe waits at most
CHECKS = 0.4  # seconds, of these, for the checks
PEERS = 0.25  # seconds, of these, for the peers
OFTEN, SELDOM = 0.25, 1.5  # seconds between two checks, while something fails and while all is well


class Traffic:
    def __init__(
        self,
        settings: Settings,
        absence: Absence | None,
        checks: Callable[[], Iterable[Bounded]],
        log: Callable[[dict[str, str]], None],
    ) -> None:
        self.peers = [peer.strip() for peer in settings.status_peers.split(",") if peer.strip()]
        self.port, self.absence, self.checks, self.log = settings.port, absence, checks, log
        self.look = Bounded(self.find_out, "traffic")
        self.lock = threading.Lock()
        self.watching = False
        self.ready, self.looked = False, 0.0
        self.pool: ThreadPoolExecutor | None = None
        self.was_ready = mmap.mmap(-1, 1)  # 1 after it was once ready; made before the fork, seen by every worker

    def wanted(self) -> bool:
        with self.lock:
            if not self.watching:
                threading.Thread(target=self.watch, name="traffic-watch", daemon=True).start()
                self.watching = True
        return self.look(ANSWER)[0] and not drain.started()  # which may have begun since

    def watch(self) -> None:
        while True:
            sleep(OFTEN)
            if not self.ready or self.looked < monotonic() - SELDOM:
                self.look()

    def find_out(self) -> tuple[bool, str]:
        self.looked = monotonic()
        failing = {}
        for check in self.checks():
            passed, word = check(max(0.0, self.looked + CHECKS - monotonic()))
            if not passed:
                failing[check.__name__] = word
        self.ready = not failing
        self.log(failing)
        if self.ready:
            self.was_ready[0] = 1
            return True, "ready"
        if self.absence is None or set(failing) != {"database"} or not isinstance(failing["database"], Unanswered):
            return False, "not ready"
        if self.a_peer_is_ready():
            self.absence.postpone()
            return False, "alone"
        return bool(self.was_ready[0]), "no database"

    def a_peer_is_ready(self) -> bool:
        if not self.peers:
            return False
        self.pool = self.pool or ThreadPoolExecutor(len(self.peers), thread_name_prefix="peers")
        asked = [self.pool.submit(self.is_ready, peer) for peer in self.peers]
        with suppress(TimeoutError):  # a peer that does not answer counts as not ready
            return any(each.result() for each in as_completed(asked, PEERS))
        return False

    def is_ready(self, peer: str) -> bool:
        connection = http.client.HTTPConnection(peer, timeout=PEERS)
        try:
            connection.connect()
            here, there = connection.sock.getsockname()[0], connection.sock.getpeername()
            if (here, self.port) == there[:2]:
                return False  # this replica itself
            connection.request("GET", routes.READY)
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()
