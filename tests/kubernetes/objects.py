"""Looking at rendered manifests: who runs what, with which variables, files and settings."""

from __future__ import annotations

import base64
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from config.settings import Settings, load_settings
from tests.kubernetes.rendering import Object, containers_of, identity, pod_of, read_objects

ROOT = Path(__file__).parents[2]
KUBERNETES = ROOT / "deploy" / "kubernetes"
OVERLAYS = ("trial", "cpu", "gpu")
SECRETS = "/run/secrets/warmline/"
OURS = re.compile(r"(?:^|/)warmline-(api|worker|worker-cuda):")
SHELL = "/bin/sh"


def make_secret(**own: str) -> Object:
    """What make-secret.sh prints: the Secret in it. `own` are values of one's own."""
    script = subprocess.run(
        [SHELL, str(KUBERNETES / "make-secret.sh")],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env={"PATH": "/usr/bin:/bin", **own},
    )
    _, made = read_objects(script.stdout)
    return made


def pods(objects: list[Object]) -> Iterator[tuple[str, Object]]:
    for each in objects:
        if pod := pod_of(each):
            yield each["metadata"]["name"], pod


def ours(objects: list[Object]) -> Iterator[tuple[str, Object, Object]]:
    """Pod's name, pod, container: those that run Warmline."""
    for name, pod in pods(objects):
        for container in containers_of(pod):
            if OURS.search(container["image"]):
                yield name, pod, container


def one(objects: list[Object], kind: str, name: str) -> Object:
    (found,) = [each for each in objects if identity(each) == (kind, name)]
    return found


def variables(objects: list[Object], container: Object) -> dict[str, str]:
    found: dict[str, str] = {}
    for source in container.get("envFrom", ()):
        found |= one(objects, "ConfigMap", source["configMapRef"]["name"])["data"]
    return found | {each["name"]: each["value"] for each in container.get("env", ())}


def secret_files(pod: Object) -> dict[str, tuple[str, bool]]:
    """Name of the file below SECRETS -> key of the Secret, and whether it has to be there."""
    found: dict[str, tuple[str, bool]] = {}
    (volume,) = [each for each in pod["volumes"] if each["name"] == "secrets"]
    sources = (
        [volume["secret"]] if "secret" in volume else [each["secret"] for each in volume["projected"]["sources"]]
    )
    for source in sources:
        assert source.get("secretName", source.get("name")) == "warmline"
        found |= {each["path"]: (each["key"], not source.get("optional", False)) for each in source["items"]}
    return found


def settings_of(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, found: dict[str, str], pod: Object, secret: Object
) -> Settings:
    """As the container's process would read them, with the files that it would find."""
    directory = tmp_path / "secrets"
    directory.mkdir(exist_ok=True)
    for file, (key, _) in secret_files(pod).items():
        if key in secret["data"]:
            (directory / file).write_bytes(decoded(secret, key))
    for name, value in found.items():
        if name.startswith("WARMLINE_"):
            monkeypatch.setenv(name, value.replace(SECRETS, f"{directory}/"))
    monkeypatch.chdir(tmp_path)
    settings = load_settings(with_stack=False)
    for name in found:
        monkeypatch.delenv(name, raising=False)
    return settings


def decoded(secret: Object, key: str) -> bytes:
    return base64.b64decode(secret["data"][key], validate=True)
