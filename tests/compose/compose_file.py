"""docker-compose.yml as `docker compose` reads it: variables filled in, services in the order of their start."""

from __future__ import annotations

import graphlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
FILE = ROOT / "docker-compose.yml"

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


class BadVariable(Exception):
    """A variable that compose would refuse."""


def fill_in(text: str, values: Mapping[str, str]) -> str:
    """Compose's own interpolation: $NAME, ${NAME}, ${NAME:-default}, ${NAME:+other}, ${NAME:?why}; $$ is a $."""
    filled, place = "", 0
    while (dollar := text.find("$", place)) >= 0:
        filled += text[place:dollar]
        if text.startswith("$$", dollar):
            filled, place = filled + "$", dollar + 2
        elif text.startswith("${", dollar):
            end = _closing(text, dollar + 2)
            filled, place = filled + _value(text[dollar + 2 : end], values), end + 1
        elif name := _NAME.match(text, dollar + 1):
            filled, place = filled + values.get(name[0], ""), name.end()
        else:
            raise BadVariable(f"a lone $ in {text!r}")
    return filled + text[place:]


def _closing(text: str, start: int) -> int:
    depth = 1
    for place in range(start, len(text)):
        depth += text.startswith("${", place) - (text[place] == "}")
        if depth == 0:
            return place
    raise BadVariable(f"no closing brace in {text!r}")


def _value(inside: str, values: Mapping[str, str]) -> str:
    name = _NAME.match(inside)
    if name is None:
        raise BadVariable(inside)
    operator = re.match(r"(:?)([-+?])", inside[name.end() :])
    value = values.get(name[0])
    if operator is None:
        if name.end() != len(inside):
            raise BadVariable(inside)
        return value or ""
    rest = inside[name.end() + operator.end() :]
    is_set = bool(value) if operator[1] else value is not None
    match operator[2]:
        case "-":
            return (value or "") if is_set else fill_in(rest, values)
        case "+":
            return fill_in(rest, values) if is_set else ""
    if not is_set:
        raise BadVariable(f"{name[0]}: {rest}")
    return value or ""


def _fill_in_all(node: Any, values: Mapping[str, str]) -> Any:
    match node:
        case str():
            return fill_in(node, values)
        case dict():
            return {key: _fill_in_all(value, values) for key, value in node.items()}
        case list():
            return [_fill_in_all(value, values) for value in node]
    return node


def seconds(text: str | None, default: float) -> float:
    """A duration as compose writes it: 1m30s."""
    if text is None:
        return default
    parts = re.findall(r"(\d+)(ms|s|m|h)", text)
    assert "".join(number + unit for number, unit in parts) == text, text
    return sum(int(number) * _UNITS[unit] for number, unit in parts)


@dataclass(frozen=True)
class Mount:
    """What a service sees at a path: a file or directory here; one of its own where there is no `source`."""

    target: str
    source: str = ""
    name: str = ""  # of a volume that services share
    secret: bool = False


class Service:
    """One service, everything about it filled in."""

    def __init__(self, name: str, node: dict[str, Any], secrets: Mapping[str, Any]) -> None:
        self.name, self.node = name, node
        self._secrets = secrets

    def __repr__(self) -> str:
        return f"Service({self.name})"

    @property
    def profiles(self) -> Sequence[str]:
        """Empty: it belongs to every start."""
        return self.node.get("profiles", [])

    @property
    def environment(self) -> dict[str, str]:
        """As the process gets it."""
        return {name: str(value) for name, value in self.node.get("environment", {}).items()}

    @property
    def command(self) -> list[str]:
        """The whole command: entry point and arguments."""
        return [str(word) for word in (*self.node.get("entrypoint", []), *self.node.get("command", []))]

    @property
    def waits_for(self) -> dict[str, str]:
        """Service -> condition."""
        return {name: entry["condition"] for name, entry in self.node.get("depends_on", {}).items()}

    @property
    def health_command(self) -> list[str]:
        """Empty: it has no health check."""
        test = self.node.get("healthcheck", {}).get("test", [])
        if test and test[0] == "CMD-SHELL":
            return ["sh", "-c", test[1]]
        return [str(word) for word in test[1:]]

    def health_seconds(self, key: str, default: float) -> float:
        """One of the health check's durations."""
        return seconds(self.node.get("healthcheck", {}).get(key), default)

    @property
    def stop_seconds(self) -> float:
        """How long it has after SIGTERM."""
        return seconds(self.node.get("stop_grace_period"), 10.0)

    @property
    def mounts(self) -> list[Mount]:
        """Everything that is mounted: volumes, secrets, and what lies in memory."""
        found = [Mount(target=entry.partition(":")[0]) for entry in self.node.get("tmpfs", [])]
        for entry in self.node.get("volumes", []):
            source, _, rest = entry.rpartition(":") if entry.endswith(":ro") else (entry, "", "ro")
            source, colon, target = source.partition(":")
            assert rest == "ro", entry
            if not colon:
                found.append(Mount(target=source))  # a volume of its own
            elif source.startswith(("./", "/", "../")):
                found.append(Mount(target=target, source=str((ROOT / source).resolve())))
            else:
                found.append(Mount(target=target, name=source))
        for entry in self.node.get("secrets", []):
            given = entry if isinstance(entry, dict) else {"source": entry}
            name = given["source"]
            file = self._secrets[name]["file"]
            target = given.get("target", name)
            target = target if target.startswith("/") else f"/run/secrets/{target}"
            found.append(Mount(target=target, source=str((ROOT / file).resolve()), secret=True))
        return found

    @property
    def ports(self) -> dict[int, int | None]:
        """The ports that others reach it at -> where the host has them; None: nowhere."""
        found: dict[int, int | None] = {int(port): None for port in self.node.get("expose", [])}
        for entry in self.node.get("ports", []):
            _, host, inside = entry.split(":")
            found[int(inside)] = int(host)
        return found


class ComposeFile:
    """The file, with these variables."""

    def __init__(self, text: str, values: Mapping[str, str]) -> None:
        self.node = _fill_in_all(yaml.safe_load(text), values)
        self.services = {
            name: Service(name, node, self.node["secrets"]) for name, node in self.node["services"].items()
        }

    @classmethod
    def read(cls, values: Mapping[str, str] | None = None) -> ComposeFile:
        """The repository's own."""
        return cls(FILE.read_text(), values or {})

    def waves(self, *profiles: str) -> list[list[Service]]:
        """The services that start with these profiles: those of a wave wait for some of the waves before it."""
        chosen = {
            name: service
            for name, service in self.services.items()
            if not service.profiles or set(service.profiles) & set(profiles)
        }
        sorter = graphlib.TopologicalSorter(
            {name: set(service.waits_for) & chosen.keys() for name, service in chosen.items()}
        )
        sorter.prepare()
        found = []
        while sorter.is_active():
            ready = sorter.get_ready()
            found.append([chosen[name] for name in ready])
            sorter.done(*ready)
        return found
