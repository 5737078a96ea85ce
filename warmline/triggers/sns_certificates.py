"""The certificates that Amazon SNS signs its messages with, from the addresses that `triggers.sns` has checked.

A stranger's message can make us ask SNS for a certificate: one is asked for at a time, with little patience, no
redirects and a limit of bytes, while few others wait; and only what was found good is kept.
"""

from __future__ import annotations

import ipaddress
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import httpx
import structlog
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from warmline.jobs.errors import PermanentError, TransientError

log = structlog.get_logger()

FETCH_SECONDS: Final = 4.0
WAITING: Final = 16  # threads: the API has 40, and the others' requests need theirs
MAX_ANSWER_BYTES: Final = 16 * 1024
KEPT: Final = 16  # SNS has one certificate a region, and a new one now and then
KEPT_SECONDS: Final = 86_400.0
MIN_KEY_BITS: Final = 2048


class SnsNotVerified(PermanentError):
    """The message is not signed by Amazon SNS for this topic."""

    code = "sns_not_verified"
    title = "SNS message not verified"


class SnsUnavailable(TransientError):
    """SNS did not give its certificate or take the confirmation; check the network between it and the API."""

    code = "sns_unavailable"
    title = "SNS does not answer"


@dataclass(frozen=True)
class Answer:
    """What SNS said."""

    status: int
    content: bytes


@dataclass(frozen=True)
class _Kept:
    certificate: x509.Certificate
    until: float  # of the monotonic clock


class Certificates:
    """The certificates seen last. Threads may share it."""

    def __init__(self, *, kept_seconds: float = KEPT_SECONDS) -> None:
        self._kept_seconds = kept_seconds
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._lock = threading.Lock()
        self._fetching = threading.Lock()
        self._places = threading.BoundedSemaphore(WAITING)

    def key_at(self, url: str) -> RSAPublicKey:
        """The public key of the certificate there. Visits the address: it has to be checked before.

        Raises SnsNotVerified for what is no valid certificate, and SnsUnavailable where it cannot be had now.
        """
        certificate = self._known(url) or self._in_turn(url)
        return _valid_key(certificate)

    def _known(self, url: str) -> x509.Certificate | None:
        with self._lock:
            kept = self._kept.get(url)
            if kept is None or kept.until < time.monotonic():
                return None
            self._kept.move_to_end(url)
            return kept.certificate

    def _in_turn(self, url: str) -> x509.Certificate:
        if not self._places.acquire(blocking=False):
            raise SnsUnavailable
        try:
            if not self._fetching.acquire(timeout=FETCH_SECONDS):
                raise SnsUnavailable
            try:
                return self._known(url) or self._fetch(url)
            finally:
                self._fetching.release()
        finally:
            self._places.release()

    def _fetch(self, url: str) -> x509.Certificate:
        certificate = _fetched(url)
        _valid_key(certificate)
        with self._lock:
            self._kept[url] = _Kept(certificate, time.monotonic() + self._kept_seconds)
            self._kept.move_to_end(url)
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        log.info("sns_certificate_fetched", url=url)
        return certificate


def fetch(url: str) -> Answer:
    """What SNS answers there, where that is final. Raises SnsUnavailable, and SnsNotVerified for a long answer."""
    deadline = time.monotonic() + FETCH_SECONDS
    content = bytearray()
    try:
        with (
            # A proxy of the company's is the way to AWS; it must not see calls to a loopback address.
            httpx.Client(timeout=FETCH_SECONDS, trust_env=not is_loopback(httpx.URL(url).host)) as client,
            client.stream("GET", url) as answer,
        ):
            for chunk in answer.iter_bytes():
                content += chunk
                if len(content) > MAX_ANSWER_BYTES:
                    raise SnsNotVerified("SNS answers with more than a certificate has.")
                if time.monotonic() > deadline:
                    raise SnsUnavailable
    except httpx.HTTPError as error:
        log.warning("sns_not_reached", url=url.partition("?")[0], error=str(error) or type(error).__name__)
        raise SnsUnavailable from None
    if answer.status_code >= 500 or answer.status_code == httpx.codes.TOO_MANY_REQUESTS:
        raise SnsUnavailable
    return Answer(answer.status_code, bytes(content))


def is_loopback(host: str) -> bool:
    """True for an address that stays on this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _fetched(url: str) -> x509.Certificate:
    answer = fetch(url)
    if answer.status != httpx.codes.OK:
        raise SnsNotVerified(f"There is no certificate at the SNS message's SigningCertURL ({answer.status}).")
    try:
        return x509.load_pem_x509_certificate(answer.content)
    except ValueError:
        raise SnsNotVerified("What is at the SNS message's SigningCertURL is no certificate.") from None


def _valid_key(certificate: x509.Certificate) -> RSAPublicKey:
    now = datetime.now(UTC)
    if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
        raise SnsNotVerified("The certificate of the SNS message is not valid today.")
    try:
        key = certificate.public_key()
    except ValueError:
        raise SnsNotVerified("The certificate of the SNS message has no key that can be read.") from None
    if not isinstance(key, RSAPublicKey) or key.key_size < MIN_KEY_BITS:
        raise SnsNotVerified(f"The certificate of the SNS message has no RSA key of {MIN_KEY_BITS} bits or more.")
    return key
