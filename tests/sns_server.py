"""An SNS for tests: it signs messages as Amazon's does, serves its certificates and takes confirmations."""

from __future__ import annotations

import base64
import json
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA1, SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

TOPIC = "arn:aws:sns:us-east-1:123456789012:uploads"

# As Amazon's documentation lists them.
_NOTIFICATION = ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type")
_CONFIRMATION = ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type")


@dataclass(frozen=True)
class Signer:
    """A private key and its certificate."""

    key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
    pem: bytes

    @classmethod
    def new(cls, *, days: tuple[float, float] = (-1, 1), key: Any = None) -> Self:
        """Valid from so many days from now to so many."""
        key = key or rsa.generate_private_key(public_exponent=65537, key_size=2048)
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sns.amazonaws.com")])
        now = datetime.now(UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(1)
            .not_valid_before(now + timedelta(days=days[0]))
            .not_valid_after(now + timedelta(days=days[1]))
            .sign(key, SHA256())
        )
        return cls(key, certificate.public_bytes(Encoding.PEM))

    def signature(self, message: Mapping[str, Any]) -> str:
        """What Amazon's documentation says is signed, in the message's SignatureVersion."""
        names = _NOTIFICATION if message["Type"] == "Notification" else _CONFIRMATION
        text = "".join(f"{name}\n{message[name]}\n" for name in names if name in message)
        digest = SHA1() if message["SignatureVersion"] == "1" else SHA256()  # noqa: S303
        if isinstance(self.key, rsa.RSAPrivateKey):
            return base64.b64encode(self.key.sign(text.encode(), PKCS1v15(), digest)).decode()
        return base64.b64encode(self.key.sign(text.encode(), ec.ECDSA(digest))).decode()


@dataclass
class SnsServer:
    """A running one. What it saw and what it answers can be looked at and changed."""

    url: str
    signer: Signer
    certificates: dict[str, bytes] = field(default_factory=dict)  # path -> PEM
    status: int = 200  # of everything that it has
    location: str = ""  # of its redirects
    requests: list[str] = field(default_factory=list)  # their paths
    serves: threading.Event = field(default_factory=threading.Event)  # while it is clear, all have to wait

    @property
    def certificate_url(self) -> str:
        """Where its own certificate is."""
        return f"{self.url}/SimpleNotificationService-0123456789abcdef.pem"

    @property
    def confirmations(self) -> list[dict[str, str]]:
        """The queries of those that it has taken."""
        return [dict(parse_qsl(urlsplit(path).query)) for path in self.requests if path.startswith("/?")]

    def message(self, message: str, **changed: Any) -> dict[str, Any]:
        """A signed message; what is changed is signed, too, and what is changed to None is left out."""
        sent = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        made: dict[str, Any] = {
            "Type": "Notification",
            "MessageId": "22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324",
            "TopicArn": TOPIC,
            "Subject": "Amazon S3 Notification",
            "Message": message,
            "Timestamp": sent,
            "SignatureVersion": "1",
            "SigningCertURL": self.certificate_url,
            "UnsubscribeURL": f"{self.url}/?Action=Unsubscribe&SubscriptionArn={TOPIC}:1",
        }
        made = {name: value for name, value in (made | changed).items() if value is not None}
        return {"Signature": self.signer.signature(made)} | made

    def subscription(self, **changed: Any) -> dict[str, Any]:
        """A signed message that offers a subscription."""
        offered = {
            "Type": "SubscriptionConfirmation",
            "Subject": None,
            "Token": "2336412f37fb687f",
            "SubscribeURL": f"{self.url}/?Action=ConfirmSubscription&TopicArn={TOPIC}&Token=2336412f37fb687f",
            "UnsubscribeURL": None,
        }
        return self.message("You have chosen to subscribe to the topic.", **(offered | changed))


@contextmanager
def running_sns() -> Iterator[SnsServer]:
    """Runs one while the block lasts."""
    signer = Signer.new()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            sns.requests.append(self.path)
            sns.serves.wait()
            body = sns.certificates.get(self.path, b"" if self.path.startswith("/?") else None)
            self.send_response(404 if body is None else sns.status)
            self.send_header("Location", sns.location)
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    sns = SnsServer(url=f"http://127.0.0.1:{server.server_port}", signer=signer)
    sns.certificates[urlsplit(sns.certificate_url).path] = signer.pem
    sns.serves.set()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield sns
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@dataclass
class Listener:
    """A port that nobody is to connect to."""

    port: int
    heard: list[str] = field(default_factory=list)  # the first line of each connection

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def listening() -> Iterator[Listener]:
    """Listens while the block lasts, writes down who came, and refuses them. It can stand for a proxy."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        listener = Listener(server.getsockname()[1])

        def serve() -> None:
            while True:
                connection, _ = server.accept()
                with connection:
                    first = connection.recv(4096).partition(b"\r\n")[0].decode(errors="replace")
                    if first == "stop":
                        return
                    listener.heard.append(first)
                    connection.sendall(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield listener
        finally:
            with socket.create_connection(("127.0.0.1", listener.port)) as stop:
                stop.sendall(b"stop\r\n")
            thread.join()


def body_of(message: Mapping[str, Any]) -> bytes:
    """A message as it travels."""
    return json.dumps(message).encode()
