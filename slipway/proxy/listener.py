"""The sockets of the published ports, `listener.py PORT...`, for one proxy after the other.

A proxy that starts connects to a Unix socket and gets a set of them: for each port one for IPv4 and one for IPv6. While
two proxies run, each has a set of its own, and the kernel shares new connections among them. What arrives while there
is none waits in its former set for the next, so that no connection is refused.

On SIGUSR1, all sets but the newest take no more connections. Those that are being made move over, which is what
net.ipv4.tcp_migrate_req is for (tcp(7), Linux 5.14). Standard library only.
"""

import contextlib
import os
import signal
import socket
import socketserver
import sys
import threading
from pathlib import Path

PATH = Path("/run/listener/socket")
QUEUE = 4096  # connections for each socket, the most that Linux allows by default

Sockets = list[socket.socket]


def listen(ports: list[int]) -> Sockets:
    """A set: for each port a socket for IPv4 and one for IPv6; without IPv6, the former again, as the order counts."""
    made: Sockets = []
    for port in ports:
        made.append(socket.create_server(("", port), backlog=QUEUE, reuse_port=True))
        try:
            made.append(socket.create_server(("", port), family=socket.AF_INET6, backlog=QUEUE, reuse_port=True))
        except OSError:
            made.append(made[-1])
    for each in made:
        each.setblocking(False)  # of several processes that are woken for one connection, all but one get none
    return made


class Listener(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True

    def __init__(self, ports: list[int]) -> None:
        self.ports = ports
        self.lock = threading.Lock()
        self.used: list[Sockets] = []  # by a proxy each, the newest last
        self.waiting: Sockets | None = listen(ports)  # for the next proxy, while there is none
        PATH.unlink(missing_ok=True)
        super().__init__(str(PATH), Proxy)

    def take(self) -> Sockets:
        with self.lock:
            taken, self.waiting = self.waiting or listen(self.ports), None
            self.used.append(taken)
            return taken

    def give_back(self, sockets: Sockets) -> None:
        with self.lock:
            retired = sockets not in self.used
            if not retired:
                self.used.remove(sockets)
            if retired or self.used:
                for each in sockets:
                    each.close()
            else:
                self.waiting = sockets

    def retire(self, *_: object) -> None:
        """Ends all sets but the newest."""
        with self.lock:
            for each in [each for sockets in self.used[:-1] for each in sockets]:
                with contextlib.suppress(OSError):  # without IPv6, each of them comes twice
                    each.shutdown(socket.SHUT_RD)
            del self.used[:-1]


class Proxy(socketserver.BaseRequestHandler):
    """One that has connected, which it stays: the end of the listener tells it to end, too."""

    server: Listener

    def handle(self) -> None:
        sockets = self.server.take()
        try:
            socket.send_fds(self.request, [b"\0"], [each.fileno() for each in sockets])
            self.request.recv(1)
        finally:
            self.server.give_back(sockets)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    with Listener([int(each) for each in sys.argv[1:]]) as listener:
        signal.signal(signal.SIGUSR1, listener.retire)
        listener.serve_forever()
