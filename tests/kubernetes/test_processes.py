"""Each pod's process can start there: settings, secrets, commands, probes, and places to write to."""

from __future__ import annotations

import importlib.metadata
import json
import re
import tomllib
from pathlib import Path

import kubernetes_validate
import pytest

from api.auth import refuse_open_bind
from config.settings import Settings
from tests.kubernetes.objects import (
    KUBERNETES,
    OURS,
    ROOT,
    SECRETS,
    decoded,
    make_secret,
    one,
    ours,
    pods,
    secret_files,
    settings_of,
    variables,
)
from tests.kubernetes.rendering import Object, containers_of, pod_of, read_objects, render
from workers import probes
from workers.liveness import LIVE_PATH, READY_PATH

API_PROGRAMS = {"warmline-api", "warmline-sqs", "celery", "warmline buckets"}  # in the image without torch
HAND_BACK_SECONDS = 30  # beyond the grace period (docs/workers.md)


def test_every_process_gets_settings_that_it_can_start_with(
    objects: list[Object], secret: Object, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen = set()
    for name, pod, container in ours(objects):
        found = variables(objects, container)
        settings = settings_of(monkeypatch, tmp_path, found, pod, secret)
        seen.add(name)
        assert settings.redis.url.get_secret_value().startswith(("redis://:", "rediss://:")), name
        ports = {each["containerPort"] for each in container.get("ports", ())}
        if name == "api":
            refuse_open_bind(settings.api)
            assert settings.api.host == "0.0.0.0"  # noqa: S104
            assert ports == {settings.api.port}
            assert settings.metrics.token.get_secret_value()
            assert settings.triggers.tokens
        elif container["name"] == "worker":
            probes.refuse_open_bind(settings.metrics)
            assert settings.metrics.host == "0.0.0.0"  # noqa: S104
            assert ports == {settings.metrics.port}
            grace = settings.worker.grace_seconds + HAND_BACK_SECONDS
            assert pod["terminationGracePeriodSeconds"] >= grace
            window = container["startupProbe"]["periodSeconds"] * container["startupProbe"]["failureThreshold"]
            assert window >= 120
        elif name == "flower":
            assert ports == {settings.flower.port}
            assert settings.flower.password.get_secret_value()
            assert settings.flower.host == "0.0.0.0"  # noqa: S104
    assert {"api", "flower"} < seen
    assert seen & {"worker", "worker-gpu"}


def test_every_secret_that_is_asked_for_is_made(objects: list[Object], secret: Object) -> None:
    for name, pod in pods(objects):
        for file, (key, needed) in secret_files(pod).items():
            assert file == key
            assert not needed or key in secret["data"], f"{name}: {key}"
    for _, pod, container in ours(objects):
        files = secret_files(pod)
        for variable, value in variables(objects, container).items():
            if variable.endswith("_FILE") and value.startswith(SECRETS):
                assert value.removeprefix(SECRETS) in files, variable
        (mount,) = [each for each in container["volumeMounts"] if each["name"] == "secrets"]
        assert mount == {"name": "secrets", "mountPath": SECRETS.rstrip("/"), "readOnly": True}
    # No value of a secret is in a manifest.
    text = json.dumps(objects)
    assert not any(decoded(secret, key).decode() in text for key in secret["data"])


def test_the_secret_takes_values_of_ones_own_and_makes_new_ones_each_time() -> None:
    first, second = make_secret(REDIS_PASSWORD="p$w d'\"", WEBHOOKS_SECRETS="whsec_x"), make_secret()
    assert decoded(first, "redis-password") == b"p$w d'\""
    assert decoded(first, "webhooks-secrets") == b"whsec_x"
    assert "webhooks-secrets" not in second["data"]
    for key in second["data"]:
        assert first["data"][key] != second["data"][key]
        assert len(decoded(second, key)) >= 48
    keys = decoded(second, "api-keys").decode().split(",")
    assert len(keys) == 2
    assert keys[1] == decoded(second, "scaler-key").decode()


def test_every_command_is_in_its_image(objects: list[Object]) -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    version = importlib.metadata.version("warmline")
    for _, _, container in ours(objects):
        image = OURS.search(container["image"])
        assert image
        words = container.get("command") or container["args"]
        programs = re.findall(r"\bwarmline(?:-\w+)?\b(?= )", words[2]) if words[0] == "sh" else [words[0]]
        assert programs
        for program in programs:
            if program == "celery":
                assert words == ["celery", "-A", "workers.app", "flower", "--conf=config/flower.py"]
                assert (ROOT / "config" / "flower.py").is_file()
            else:
                assert program in scripts
            assert (image[1] == "api") == (" ".join(words[: 1 + (program == "warmline")]) in API_PROGRAMS), program
        assert container["image"].partition(":")[2].removesuffix("-cuda") == version


def test_every_probe_has_a_page(objects: list[Object], paths: set[str]) -> None:
    pages = {"api": paths, "worker": {LIVE_PATH, READY_PATH}, "flower": {"/healthcheck"}}
    for name, _, container in ours(objects):
        ports = {each["name"] for each in container.get("ports", ())}
        for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
            probe = container.get(kind)
            if probe is None:
                assert kind != "livenessProbe" or container["name"] in {"model", "fetch-model", "buckets"}
            elif "httpGet" in probe:
                assert probe["httpGet"]["port"] in ports
                assert probe["httpGet"]["path"] in pages[container["name"]], name
    api = one(objects, "Deployment", "api")["spec"]["template"]["spec"]["containers"][0]
    # A fleet that is scaled to zero has no warm worker, and must still take jobs and tell its backlog.
    assert api["readinessProbe"]["httpGet"]["path"] == "/live"


def test_pods_are_shut_in(objects: list[Object]) -> None:
    for name, pod in pods(objects):
        context = pod["securityContext"]
        assert context["runAsNonRoot"] is True, name
        assert context["runAsUser"] > 0
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
        for container in containers_of(pod):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert "memory" in container["resources"]["limits"]
            assert "memory" in container["resources"]["requests"]
        modes = [
            kind["defaultMode"] for v in pod["volumes"] for k, kind in v.items() if k in {"secret", "projected"}
        ]
        assert modes == [0o440]
    assert one(objects, "ServiceAccount", "warmline")["automountServiceAccountToken"] is False


def test_whatever_is_written_lies_on_a_volume(
    objects: list[Object], secret: Object, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, pod, container in ours(objects):
        settings = settings_of(monkeypatch, tmp_path, variables(objects, container), pod, secret)
        mounts = [Path(each["mountPath"]) for each in container["volumeMounts"] if not each.get("readOnly")]
        written = [Path("/tmp")]  # noqa: S108
        if name.startswith("worker"):
            written += [settings.emotion.models_dir, settings.worker.scratch_dir]
        if name == "flower":
            written += [Path(settings.flower.state_dir)]
        if container["name"] in {"model", "fetch-model"}:
            written += [settings.emotion.models_dir]
        for path in written:
            assert any(path.is_relative_to(mount) for mount in mounts), f"{name}: {path}"
        volumes = {each["name"] for each in pod["volumes"]}
        assert {each["name"] for each in container["volumeMounts"]} <= volumes
        for volume in pod["volumes"]:
            if claim := volume.get("persistentVolumeClaim"):
                one(objects, "PersistentVolumeClaim", claim["claimName"])


def test_the_poller_of_sqs_is_like_the_other_pods(
    secret: Object, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (poller,) = read_objects((KUBERNETES / "components" / "sqs" / "sqs.yaml").read_text())
    kubernetes_validate.validate(poller, kubernetes_validate.latest_version(), strict=True)
    base = [*render(KUBERNETES / "base"), poller]
    pod = pod_of(poller)
    assert pod
    (container,) = pod["containers"]
    beats = "/tmp/sqs.alive"  # noqa: S108
    settings_of(monkeypatch, tmp_path, variables(base, container), pod, secret)
    assert container["args"] == ["warmline-sqs", "--alive-file", beats]
    assert container["livenessProbe"]["exec"]["command"] == ["python", "-m", "pollers.alive", beats]
    assert pod["terminationGracePeriodSeconds"] > Settings().sqs.wait_seconds + 10
    test_pods_are_shut_in(base)
