"""The stack's ports: the usual ones where they are free, and the same ones again at the next start."""

from __future__ import annotations

from dataclasses import astuple
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from config.settings import Settings
from warmline.local.ports import choose_port, is_free
from warmline.local.private_files import write_private
from warmline.local.seaweedfs import GRPC_OFFSET, SeaweedfsPorts


class Addresses(BaseModel):
    """Where the parts listen; `usual` is what the settings asked for when these were chosen."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    usual: tuple[int, int, int, int, int]  # valkey, s3, api, flower, the worker's pages
    valkey: int
    s3: SeaweedfsPorts
    api: int
    flower: int
    worker: int  # its /live, /ready and /metrics; 0: it has none

    @classmethod
    def keep(cls, path: Path, settings: Settings) -> Addresses:
        """Those of the last start where they can still be had; the choice is remembered. Raises NoFreePort."""
        stack = settings.stack
        usual = (stack.valkey_port, stack.s3_port, settings.api.port, settings.flower.port, settings.metrics.port)
        before = cls._read(path)
        if before is not None and before.usual != usual:
            before = None  # the settings have changed since
        taken: set[int] = set()

        def choose(part: Literal["valkey", "api", "flower", "worker"], wanted: int) -> int:
            port: int = getattr(before, part, 0)
            if port in taken or not is_free(port):
                port = choose_port(wanted, taken=taken)
            taken.add(port)
            return port

        # S3 first: it needs pairs of ports, which are harder to find.
        if before is not None and before.s3.all_free():
            s3 = before.s3
        else:
            s3 = SeaweedfsPorts.choose(usual[1], taken={usual[0], *usual[2:]})
        taken |= {port + offset for port in astuple(s3) for offset in (0, GRPC_OFFSET)}
        chosen = cls(
            usual=usual,
            s3=s3,
            valkey=choose("valkey", usual[0]),
            api=choose("api", usual[2]),
            flower=choose("flower", usual[3]),
            worker=choose("worker", usual[4]) if usual[4] else 0,
        )
        write_private(path, chosen.model_dump_json(indent=2))
        return chosen

    @classmethod
    def _read(cls, path: Path) -> Addresses | None:
        try:
            return cls.model_validate_json(path.read_bytes())
        except (FileNotFoundError, ValidationError):
            return None  # only a convenience: without it, the usual ports are tried again
