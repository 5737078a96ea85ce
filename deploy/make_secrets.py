"""Makes the secrets that docker-compose.yml mounts: `python3 deploy/make_secrets.py [DIRECTORY]`.

The directory is secrets/ by default. Each is a file of its own, made once: what one says that is there already
stays, so a password of your own is put there before. What SeaweedFS wants to read is written from them anew each
time. Uses nothing but the standard library.

Containers run as users of their own and must be able to read the files, so everybody may; the directory is for its
owner alone, and whoever cannot enter it cannot reach them.
"""

from __future__ import annotations

import base64
import json
import secrets
import sys
from pathlib import Path

DIRECTORY = Path("secrets")
FOR_CONTAINERS = 0o444
ACCESS_KEY = "warmline"

TOKENS = (
    "redis_password",
    "s3_secret_key",
    "api_keys",
    "events_token",
    "metrics_token",
    "flower_password",
    "grafana_password",
)

NOTIFICATION = """\
[notification.webhook]
enabled = true
endpoint = "http://api:8000/v1/events/s3"
bearer_token = "{events_token}"
event_types = ["create", "update", "rename"]
path_prefixes = ["/buckets/calls/"]
timeout_seconds = 10
max_retries = 3
backoff_seconds = 3
max_backoff_seconds = 30
"""


def make_secrets(directory: Path) -> list[str]:
    """Makes what is missing and returns the names of what it made. Raises OSError."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    directory.chmod(0o700)
    made = []
    for name in (*TOKENS, "webhooks_secrets"):
        if (directory / name).exists():
            (directory / name).chmod(FOR_CONTAINERS)
        else:
            _write(directory / name, f"{_new(name)}\n")
            made.append(name)
    identity = {
        "name": "warmline",
        "credentials": [{"accessKey": ACCESS_KEY, "secretKey": _read(directory / "s3_secret_key")}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }
    _write(directory / "s3.json", json.dumps({"identities": [identity]}, indent=2) + "\n")
    events_token = _read(directory / "events_token").split(",")[0]
    _write(directory / "notification.toml", NOTIFICATION.format(events_token=events_token))
    return made


def _new(name: str) -> str:
    if name == "webhooks_secrets":
        return "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()
    return secrets.token_urlsafe(24)  # letters, digits, - and _: safe in every file that they get into


def _read(path: Path) -> str:
    return path.read_text().strip()


def _write(path: Path, text: str) -> None:
    new = path.with_name(f".{path.name}.new")
    new.unlink(missing_ok=True)
    new.write_text(text)
    new.chmod(FOR_CONTAINERS)
    new.replace(path)


if __name__ == "__main__":
    place = Path(sys.argv[1]) if len(sys.argv) > 1 else DIRECTORY
    if names := make_secrets(place):
        print(f"made in {place}: {', '.join(names)}")
    else:
        print(f"{place} has all of them; s3.json and notification.toml are written anew")
