"""Connections of phones: TCP, TLS, WebSockets with and without TLS (RFC 6455, as much as SIP needs)."""

import base64
import os
import socket
import ssl


def connect(transport, server, address=None):
    """A connected stream; what is sent and received are bytes of SIP."""
    port = server.tls_port if transport in ("tls", "wss") else server.port
    plain = socket.create_connection((address or server.address, port), timeout=5)
    if transport in ("tls", "wss"):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        # TLS 1.3 sends tickets after the handshake: something to read that is nothing of SIP.
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        plain = context.wrap_socket(plain)
    return WebSocket(plain) if transport in ("ws", "wss") else plain


class WebSocket:
    """The client's side of a WebSocket; a frame carries one message."""

    def __init__(self, connection):
        self.connection, self.buffer = connection, b""
        key = base64.b64encode(os.urandom(16)).decode()
        connection.sendall(
            (
                "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                "Sec-WebSocket-Key: %s\r\nSec-WebSocket-Protocol: sip\r\nSec-WebSocket-Version: 13\r\n"
                "Content-Length: 0\r\n\r\n" % key
            ).encode()
        )
        while b"\r\n\r\n" not in self.buffer:
            self.buffer += connection.recv(65536) or b"closed\r\n\r\n"
        head, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
        if b" 101 " not in head.split(b"\r\n")[0]:
            raise OSError("no WebSocket: %r" % head)

    def fileno(self):
        return self.connection.fileno()

    def getsockname(self):
        return self.connection.getsockname()

    def close(self):
        self.connection.close()

    def sendall(self, data):
        mask = os.urandom(4)
        masked = bytes(byte ^ mask[at % 4] for at, byte in enumerate(data))
        size = bytes([0x80 | len(data)]) if len(data) < 126 else b"\xfe" + len(data).to_bytes(2, "big")
        self.connection.sendall(b"\x81" + size + mask + masked)

    def pending(self):
        """Whether more can be read without waiting."""
        return len(self.buffer) + getattr(self.connection, "pending", int)()

    def recv(self, _size):
        head = self._exactly(2)
        length = head[1] & 0x7F
        if length == 126:
            length = int.from_bytes(self._exactly(2), "big")
        elif length == 127:
            length = int.from_bytes(self._exactly(8), "big")
        payload = self._exactly(length)
        # Other frames than text and binary ones carry nothing of SIP.
        return payload if head[0] & 0x0F in (1, 2) else b"\r\n"

    def _exactly(self, count):
        while len(self.buffer) < count:
            more = self.connection.recv(65536)
            if not more:
                raise OSError("the connection was closed")
            self.buffer += more
        taken, self.buffer = self.buffer[:count], self.buffer[count:]
        return taken
