"""A receiver of webhooks: it verifies, writes down what comes, and answers as it is told."""

from __future__ import annotations

import json
import ssl
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from standardwebhooks import Webhook

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo="


@dataclass(frozen=True)
class Taken:
    """One request."""

    path: str
    headers: dict[str, str]  # names in lower case
    body: bytes

    @property
    def webhook_id(self) -> str:
        """What receivers tell deliveries apart by."""
        return self.headers["webhook-id"]

    @property
    def event(self) -> dict[str, Any]:
        """The body, once it is verified."""
        event: dict[str, Any] = Webhook(SECRET).verify(self.body, self.headers)
        return event


@dataclass
class Receiver:
    """A running one. What it answers can be changed at any time."""

    port: int
    scheme: str = "http"
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)  # of its answers
    body: bytes = b""
    statuses: list[int] = field(default_factory=list)  # of the next answers, before `status`
    taken: list[Taken] = field(default_factory=list)
    answers: threading.Event = field(default_factory=threading.Event)  # while it is clear, all have to wait
    over: bool = False
    most_at_once: int = 0
    _at_once: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"{self.scheme}://127.0.0.1:{self.port}/hook"

    @property
    def ids(self) -> Counter[str]:
        """How often each webhook-id came."""
        return Counter(taken.webhook_id for taken in list(self.taken))

    @property
    def types(self) -> list[str]:
        """The events' types, in the order in which they came."""
        return [json.loads(taken.body)["type"] for taken in list(self.taken)]

    def take(self, taken: Taken) -> int:
        """Writes a request down; returns the status of its answer."""
        with self._lock:
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
            self.taken.append(taken)
            status = self.statuses.pop(0) if self.statuses else self.status
        while not self.answers.wait(0.05) and not self.over:
            pass
        with self._lock:
            self._at_once -= 1
        return status


@contextmanager
def running_receiver(tls: ssl.SSLContext | None = None) -> Iterator[Receiver]:
    """Runs one while the block lasts."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if len(body) < int(self.headers["content-length"]):
                return  # the sender was killed in the middle of it
            headers = {name.lower(): value for name, value in self.headers.items()}
            status = receiver.take(Taken(self.path, headers, body))
            try:
                self.send_response(status)
                for name, value in receiver.headers.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(receiver.body)))
                self.end_headers()
                self.wfile.write(receiver.body)
            except OSError:
                self.close_connection = True  # the sender has given up

        def log_message(self, *_: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 64

        def handle_error(self, *_: Any) -> None:
            pass  # a sender that hangs up, or that does not like our certificate

    server = Server(("127.0.0.1", 0), Handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    receiver = Receiver(server.server_port, "http" if tls is None else "https")
    receiver.answers.set()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        receiver.over = True
        server.shutdown()
        server.server_close()
        thread.join()


@dataclass(frozen=True)
class Authority:
    """A certificate authority of one's own, and a certificate of it for a server."""

    file: Path
    tls: ssl.SSLContext


def make_authority(directory: Path, *, names: tuple[str, ...] = ("localhost", "127.0.0.1")) -> Authority:
    """The server's certificate is for these names."""
    authority_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    authority = _certificate("Warmline tests", authority_key, "Warmline tests", authority_key, ca=True)
    server = _certificate("receiver", key, "Warmline tests", authority_key, names=names)
    (directory / "ca.pem").write_bytes(authority.public_bytes(Encoding.PEM))
    chain = directory / "server.pem"
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    chain.write_bytes(private + server.public_bytes(Encoding.PEM))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(chain)
    return Authority(directory / "ca.pem", tls)


def _certificate(
    name: str,
    key: ec.EllipticCurvePrivateKey,
    issuer: str,
    issuer_key: ec.EllipticCurvePrivateKey,
    *,
    names: tuple[str, ...] = (),
    ca: bool = False,
) -> x509.Certificate:
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
    )
    if names:
        general = [x509.IPAddress(ip_address(each)) if each[0].isdigit() else x509.DNSName(each) for each in names]
        builder = builder.add_extension(x509.SubjectAlternativeName(general), critical=False)
    return builder.sign(issuer_key, SHA256())
