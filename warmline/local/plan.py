"""Which parts a stack has, at which addresses, with which passwords: from its settings and its data directory."""

from __future__ import annotations

import importlib.util
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dotenv import dotenv_values
from pydantic import SecretStr

import config
from config.settings import Settings, load_settings, to_variables
from warmline.jobs.ledger import Ledger
from warmline.local.addresses import Addresses
from warmline.local.credentials import Credentials
from warmline.local.directory import StackDirectory
from warmline.local.events import OnEvent, PortTaken
from warmline.local.parts import ORDER, Part, ServerMissing
from warmline.local.ports import LOOPBACK
from warmline.local.private_files import write_private
from warmline.local.probes import page_waits_for, s3_waits_for, worker_waits_for
from warmline.local.seaweedfs import CLEARED_VARIABLES, SeaweedfsServer
from warmline.local.uploads import LogPosition, SignOfLife
from warmline.local.valkey import ValkeyServer
from warmline.objects.store import ObjectStore

# A worker that is told to stop gives its running jobs WARMLINE_WORKER_GRACE_SECONDS, then this to be handed back.
HAND_BACK_SECONDS = 30

S3_PROBE_SECONDS = 2.0

# What clients on this machine need to reach the stack.
_CLIENTS_VARIABLES = (
    "WARMLINE_REDIS_URL",
    "WARMLINE_S3_ENDPOINT_URL", "WARMLINE_S3_REGION", "WARMLINE_S3_ACCESS_KEY", "WARMLINE_S3_SECRET_KEY",
    "WARMLINE_S3_SOURCE_BUCKETS", "WARMLINE_S3_RESULTS_BUCKET", "WARMLINE_S3_RESULTS_PREFIX",
    "WARMLINE_TRIGGERS_FILE", "WARMLINE_TRIGGERS_IGNORE_PREFIXES", "WARMLINE_TRIGGERS_JOBS_PER_MINUTE",
    "WARMLINE_API_HOST", "WARMLINE_API_PORT", "WARMLINE_API_URL", "WARMLINE_API_KEYS",
    "WARMLINE_FLOWER_HOST", "WARMLINE_FLOWER_PORT", "WARMLINE_FLOWER_USER", "WARMLINE_FLOWER_PASSWORD",
    "WARMLINE_METRICS_HOST", "WARMLINE_METRICS_PORT", "WARMLINE_METRICS_TOKEN",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A stack that is ready to be started."""

    settings: Settings  # with every address and password filled in
    parts: Sequence[Part]  # in the order in which they start


def plan_stack(settings: Settings, directory: StackDirectory, on_event: OnEvent) -> Plan:
    """Chooses ports and passwords, those of the last start again, and writes each server's configuration.

    Raises StackError, ServerMissing, NoFreePort.
    """
    credentials = Credentials.keep(directory.credentials_file)
    addresses = Addresses.keep(directory.ports_file, settings)
    valkey = s3 = None
    position = LogPosition(directory.uploads_file)
    if settings.stack.embed_redis:
        valkey = ValkeyServer(
            directory=directory.of("valkey"), port=addresses.valkey, password=credentials.redis_password
        )
    if settings.stack.embed_s3:
        s3 = SeaweedfsServer(
            directory=directory.of("s3"),
            ports=addresses.s3,
            access_key=credentials.s3_access_key,
            secret_key=credentials.s3_secret_key,
        )
    filled = _fill_in(settings, directory, credentials, addresses, valkey, s3)
    parts = []
    if valkey is not None:
        valkey.write_configuration()
        parts.append(_valkey_part(valkey))
    if s3 is not None:
        s3.write_configuration()
        parts.append(_s3_part(s3, filled))
    parts.extend(_own_parts(filled))
    if s3 is not None and settings.stack.triggers:
        position.begin()  # before S3 starts: what is uploaded from then on counts
        parts.append(_uploads_part(s3, filled, directory))
    else:
        position.forget()  # what is uploaded meanwhile was not to count, nor is it to later
    parts.sort(key=lambda part: ORDER.index(part.name))
    chosen = {
        "valkey": addresses.valkey,
        "s3": addresses.s3.s3,
        "api": addresses.api,
        "flower": addresses.flower,
        "worker": addresses.worker,
    }
    for (name, port), usual in zip(chosen.items(), addresses.usual, strict=True):
        if port != usual and name in {part.name for part in parts}:
            on_event(PortTaken(name, usual, port))
    return Plan(settings=filled, parts=parts)


def _fill_in(
    settings: Settings,
    directory: StackDirectory,
    credentials: Credentials,
    addresses: Addresses,
    valkey: ValkeyServer | None,
    s3: SeaweedfsServer | None,
) -> Settings:
    api_host = LOOPBACK if settings.api.host in {"0.0.0.0", "::", ""} else settings.api.host  # noqa: S104
    api = {"port": addresses.api, "url": settings.api.url or f"http://{api_host}:{addresses.api}"}
    changes: dict[str, dict[str, object]] = {
        "api": api if settings.api.keys else {**api, "keys": (SecretStr(credentials.api_key),)},
        "flower": {"port": addresses.flower},
        "metrics": {"port": addresses.worker},
        "stack": {"data_dir": directory.path},
    }
    if settings.triggers.file:  # clients run elsewhere
        changes["triggers"] = {"file": str(Path(settings.triggers.file).expanduser().absolute())}
    if not settings.flower.state_dir:
        changes["flower"]["state_dir"] = str(directory.of("flower"))
    if not settings.flower.password.get_secret_value():
        changes["flower"]["password"] = SecretStr(credentials.flower_password)
    if valkey is not None:
        changes["redis"] = {"url": SecretStr(valkey.url())}
    if s3 is not None:
        changes["s3"] = {
            "endpoint_url": s3.endpoint_url,
            "access_key": SecretStr(s3.access_key),
            "secret_key": SecretStr(s3.secret_key),
        }
    sections = {name: getattr(settings, name).model_copy(update=change) for name, change in changes.items()}
    return settings.model_copy(update=sections)


def write_clients_file(settings: Settings, path: Path) -> None:
    """Writes the file that clients of the stack read: addresses and passwords, for `load_settings`."""
    variables = to_variables(settings)
    lines = [
        "# Written by `warmline up` for its clients; it holds passwords, and is removed when the stack stops."
    ]
    lines += [f"{name}='{_escaped(variables[name])}'" for name in _CLIENTS_VARIABLES]
    write_private(path, "\n".join(lines) + "\n")


def read_clients_file(path: Path) -> Settings:
    """The settings of the stack that wrote the file, whatever the environment of this process says."""
    own: dict[str, Any] = {name: value or "" for name, value in dotenv_values(path).items()}
    return load_settings(**own)


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("'", "\\'")


def _own_parts(settings: Settings) -> Sequence[Part]:
    """The API, the worker, Flower. Raises ServerMissing."""
    here = Path.cwd()
    for module, package in (("uvicorn", "uvicorn"), ("supervisor", "supervisor"), ("flower", "flower")):
        if importlib.util.find_spec(module) is None:
            raise ServerMissing(package, "a part of the one-machine stack")
    ledger = Ledger.connect(settings.redis, settings.jobs)
    api_url = f"http://{_reachable(settings.api.host)}:{settings.api.port}"
    flower_url = f"http://{_reachable(settings.flower.host)}:{settings.flower.port}"
    return [
        Part(
            name="api",
            command=[sys.executable, "-m", "api.app"],
            directory=here,
            address=api_url,
            waiting_for=lambda _: page_waits_for(f"{api_url}/live"),
        ),
        Part(
            name="worker",
            command=[sys.executable, "-m", "workers.app"],
            directory=here,
            address=_worker_address(settings),
            waiting_for=lambda pid: worker_waits_for(ledger, pid),
            stop_seconds=math.ceil(settings.worker.grace_seconds) + HAND_BACK_SECONDS,
        ),
        Part(
            name="flower",
            command=flower_command(),
            directory=here,
            address=flower_url,
            waiting_for=lambda _: page_waits_for(f"{flower_url}/healthcheck"),
        ),
    ]


def _worker_address(settings: Settings) -> str:
    """Its model, and where it answers for itself."""
    metrics = settings.metrics
    pages = f", http://{_reachable(metrics.host)}:{metrics.port}/live" if metrics.port else ""
    return f"model {settings.emotion.model}{pages}"


def flower_command() -> list[str]:
    """Flower, with the workers' Celery application; address and password are in config/flower.py."""
    file = Path(config.__file__).with_name("flower.py")
    return [sys.executable, "-m", "celery", "-A", "workers.app", "flower", f"--conf={file}"]


def _valkey_part(server: ValkeyServer) -> Part:
    return Part(
        name="valkey",
        command=server.command,
        directory=server.directory,
        address=f"redis://{server.host}:{server.port}/0",
        waiting_for=lambda _: None if server.answers() else "its first answer",
    )


def _s3_part(server: SeaweedfsServer, settings: Settings) -> Part:
    # Not patient: it is asked again.
    s3 = settings.s3.model_copy(update={"timeout_seconds": min(S3_PROBE_SECONDS, settings.s3.timeout_seconds)})
    store = ObjectStore(s3, attempts=1)
    return Part(
        name="s3",
        command=server.command,
        directory=server.working_directory,
        address=server.endpoint_url,
        waiting_for=lambda _: s3_waits_for(server, store, settings),
        remove_traces=server.remove_sockets,
        cleared=CLEARED_VARIABLES,
    )


def _uploads_part(server: SeaweedfsServer, settings: Settings, directory: StackDirectory) -> Part:
    sign = SignOfLife(directory.uploads_sign_file)
    own = [f"--filer={server.filer}", f"--home={server.working_directory}"]
    return Part(
        name="uploads",
        command=[sys.executable, "-m", "pollers.filer_log", *own],
        directory=Path.cwd(),
        address=", ".join(f"s3://{bucket}" for bucket in settings.s3.source_buckets),
        waiting_for=sign.waits_for,
    )


def _reachable(host: str) -> str:
    """The address at which this machine reaches what binds to `host`."""
    if host in {"0.0.0.0", "::", ""}:  # noqa: S104 - compared, not bound
        return LOOPBACK
    return f"[{host}]" if ":" in host else host
