"""What a log line may not show: secrets, and, where it is wished, the keys of calls.

Secrets are looked for in the finished line, so that it does not matter who wrote it, into which field, or whether
in an address, a header or a traceback. The values of all secret settings are known; of others (a token in somebody
else's address, a signature) it is known what stands in front of them.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, Self
from urllib.parse import parse_qsl, quote, quote_plus, unquote, urlsplit

from pydantic import SecretStr

from config.settings import Settings

HIDDEN: Final = "[hidden]"
SHORTEST: Final = 4  # characters: whoever has a shorter password has none, and it would be found in every line
SHORT: Final = 8  # a shorter secret is hidden only where it stands alone: `redis` is a word, too

_NAMES: Final = (
    r"(?:token|secret|passwd|password|signature|api[_\-]?key|secret[_\-]?key|access[_\-]?key|authorization)"
)
_OF_NAMES: Final = ("token", "secret", "passw", "signature", "key=", 'key"', "key'", "key\\", "authorization")
# What is secret for what stands before it: words in lower case without which a line holds none of it, and how it
# is found. The words are looked for first, because that takes a fraction of the time.
_PATTERNS: Final = (
    # user:password@ of an address
    (("://",), re.compile(r"(\w://)[^/\s@\"'<>]+@"), rf"\g<1>{HIDDEN}@"),
    (
        ("bearer ", "basic "),
        re.compile(r"\b(bearer|basic)(\s+)(?!realm)[\w.~+/\-=]{6,}", re.IGNORECASE),
        rf"\g<1>\g<2>{HIDDEN}",
    ),
    # What AWS signs requests with, in a header and in a presigned address
    (("credential=",), re.compile(r"\b(Credential=)[^\s,/&\"']+", re.IGNORECASE), rf"\g<1>{HIDDEN}"),
    (
        ("x-amz-",),
        re.compile(r"\b(X-Amz-(?:Credential|Security-Token|Signature)(?:=|%3D|:\s*))[^\s&\"'\\]+", re.IGNORECASE),
        rf"\g<1>{HIDDEN}",
    ),
    (("whsec_",), re.compile(r"\bwhsec_[A-Za-z0-9+/=]{16,}"), HIDDEN),
    # name=value of a query, a form, a header
    (
        _OF_NAMES,
        re.compile(rf"({_NAMES}s?=)(?!\[hidden)[^\s&;,\"'\\<>]+", re.IGNORECASE),
        rf"\g<1>{HIDDEN}",
    ),
    # "name": "value" of JSON and of a dict's repr; name: value of headers as they are sent
    (
        _OF_NAMES,
        re.compile(rf"({_NAMES}s?\\?[\"']\s*:\s*b?\\?[\"'])(?!\[hidden)[^\"'\\]+", re.IGNORECASE),
        rf"\g<1>{HIDDEN}",
    ),
    (
        ("authorization:",),
        re.compile(r"(authorization:\s*)(?!\[hidden|bearer |basic )[^\s\"'\\]+", re.IGNORECASE),
        rf"\g<1>{HIDDEN}",
    ),
)


_WORDS: Final = tuple(dict.fromkeys(word for words, _, _ in _PATTERNS for word in words))


class Redactor:
    """Hides secrets in text. Costs some microseconds a line: docs/logs.md has the figure."""

    def __init__(self, secrets: Mapping[str, str] | Iterable[str] = ()) -> None:
        """Each secret with what stands in its place, or HIDDEN."""
        given = secrets if isinstance(secrets, Mapping) else dict.fromkeys(secrets, HIDDEN)
        shown: dict[str, str] = {}
        for secret, instead in given.items():
            for written in _spellings(secret):
                if len(written) >= SHORTEST:
                    shown.setdefault(written, instead)
        # The longest first: one may be part of another.
        ordered = sorted(shown.items(), key=lambda item: -len(item[0]))
        self._long = tuple((text, instead) for text, instead in ordered if len(text) >= SHORT)
        short = "|".join(re.escape(text) for text, _ in ordered if len(text) < SHORT)
        self._short = re.compile(rf"(?<![\w\-])(?:{short})(?![\w\-])") if short else None

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Knows every secret of the settings: what is a SecretStr, passwords in addresses, webhooks' addresses."""
        secrets: dict[str, str] = {}
        for section in settings.SECTIONS:
            values = getattr(settings, section)
            for name in type(values).model_fields:
                value = getattr(values, name)
                for each in value if isinstance(value, tuple) else (value,):
                    if isinstance(each, SecretStr):
                        secrets |= dict.fromkeys(_parts(each.get_secret_value()), HIDDEN)
        for url in settings.webhooks.urls:  # some carry a token in their path
            where = urlsplit(url)
            if where.path.strip("/") or where.query:
                secrets[url] = f"{where.scheme}://{where.netloc}/{HIDDEN}"
        return cls(secrets)

    def text(self, text: str) -> str:
        """The text without the secrets."""
        for secret, instead in self._long:
            if secret in text:
                text = text.replace(secret, instead)
        if self._short is not None:
            text = self._short.sub(HIDDEN, text)
        lowered = text.lower()
        for word in _WORDS:  # a plain loop: most lines have none of them, and go through here
            if word in lowered:
                return _hide_by_name(text, lowered)
        return text


def _hide_by_name(text: str, lowered: str) -> str:
    for words, pattern, instead in _PATTERNS:
        if any(word in lowered for word in words):
            text = pattern.sub(instead, text)
    return text


_SECRET_HEADER: Final = re.compile("auth|key|token|secret|pass|cookie|credential", re.IGNORECASE)


def _parts(secret: str) -> list[str]:
    """A secret, and what is secret in it: an address's password, the values of a list of headers."""
    parts = [secret]
    if "://" in secret:
        try:
            where = urlsplit(secret)
        except ValueError:
            return parts
        parts += [where.password or "", *(value for name, value in parse_qsl(where.query) if "pass" in name)]
        if where.password is None and not where.query:
            parts.remove(secret)  # redis://127.0.0.1:6379/0 is none
    elif re.match(r"\s*[\w\-.]+\s*=", secret):
        # A header may as well say `x-tenant=calls`, and that word is in every line.
        headers = (header.partition("=") for header in secret.split(","))
        values = [value.strip() for name, _, value in headers if _SECRET_HEADER.search(name) or len(value) > 15]
        # "Bearer xyz" is also known without its first word.
        parts += [*values, *(value.rpartition(" ")[2] for value in values)]
    return [part for part in parts if part]


def _spellings(secret: str) -> set[str]:
    """A secret as it may stand in a line: plain, in JSON, in Python's repr, in an address."""
    plain = {secret, unquote(secret)}
    if secret.startswith("whsec_"):
        plain.add(secret.removeprefix("whsec_"))
    quoted = {way(text) for text in plain for way in (quote, quote_plus, lambda text: quote(text, safe=""))}
    spoken = {repr(text)[1:-1] for text in plain}
    escaped = {
        json.dumps(text, ensure_ascii=ascii_only)[1:-1]
        for text in (*plain, *spoken)
        for ascii_only in (True, False)
    }
    return plain | quoted | spoken | escaped


_URI = re.compile(
    r"(?P<bucket>s3://[a-z0-9][a-z0-9.\-]{1,61}[a-z0-9]/)"
    # Up to what ends it in our sentences; keys may hold spaces.
    r"(?P<key>[^\"'<>\n]+?)"
    r"(?=(?:[:;,.)]?(?:\s*$|[\"'<>\n]|: |; |, |\. ))| (?:has|is|was|with|and|in|to|cannot|could|at|by) )",
    re.MULTILINE,
)
_KEY_FIELDS: Final = frozenset({"key", "keys", "prefix", "uri", "uris"})
_EXTENSION = re.compile(r"\.(?=[A-Za-z0-9]*[A-Za-z])[A-Za-z0-9]{1,5}$")  # no digits alone: they may be a number
_ENDS_OF_NAMES: Final = 8  # hex digits of the digest


def mask_key(key: str) -> str:
    """…, eight hex digits that are always the same for this key, and its extension: `…1f0c3a77.wav`.

    That joins the lines of one call. It is no secret: who can guess keys can tell which of them it is.
    """
    if key.startswith("…"):
        return key  # it is masked
    extension = _EXTENSION.search(key)
    digest = hashlib.sha256(key.encode(errors="surrogatepass")).hexdigest()[:_ENDS_OF_NAMES]
    return f"…{digest}{extension.group().lower() if extension else ''}"


def mask_uris(text: str) -> str:
    """The text with the keys of all s3:// addresses in it masked."""
    if "s3://" not in text:
        return text
    return _URI.sub(lambda found: f"{found['bucket']}{mask_key(found['key'])}", text)


def mask_call_names(fields: dict[str, Any]) -> dict[str, Any]:
    """A log line's fields with the keys of calls masked: those that are keys, and addresses in any text."""
    return {name: _masked(value, is_key=name in _KEY_FIELDS) for name, value in fields.items()}


def _masked(value: Any, *, is_key: bool) -> Any:
    if isinstance(value, str):
        bucket = re.match(r"s3://[^/]+/", value) if is_key else None
        if bucket is not None:
            rest = value[bucket.end() :]
            return bucket.group() + (mask_key(rest) if rest else "")
        return mask_key(value) if is_key and value else mask_uris(value)
    if isinstance(value, (list, tuple)):
        return [_masked(each, is_key=is_key) for each in value]
    if isinstance(value, dict):
        return mask_call_names(value)
    return value
