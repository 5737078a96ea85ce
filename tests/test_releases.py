"""What belongs to a release: one version everywhere, each decision listed, licences looked at, an SBOM."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

ROOT = Path(__file__).parents[1]
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
DECISIONS = ROOT / "docs" / "decisions"


def test_what_is_installed_is_this_version() -> None:
    """An editable installation keeps its old metadata until it is made again, which `make` does."""
    assert version("warmline") == VERSION
    said = subprocess.run(
        [sys.executable, "-m", "warmline.cli.main", "--version"], capture_output=True, text=True, check=True
    )
    assert said.stdout == f"warmline {VERSION}\n"


def test_the_changelog_begins_with_this_version_or_with_what_is_to_come() -> None:
    headings = re.findall(r"^## \[(.+?)\](?: - (\S+))?$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    versions = [name for name, _ in headings]
    released = [name for name in versions if name != "Unreleased"]
    assert released[0] == VERSION
    assert versions.index(VERSION) <= 1
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\d", date) for name, date in headings if name != "Unreleased")
    assert released == sorted(released, key=lambda name: tuple(map(int, name.split("."))), reverse=True)


def test_images_have_this_version() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert set(re.findall(r"^ARG VERSION=(\S+)$", dockerfile, re.MULTILINE)) == {VERSION}
    tags = {
        str(image["newTag"]).removesuffix("-cuda")
        for file in (ROOT / "deploy" / "kubernetes").rglob("kustomization.yaml")
        for image in yaml.safe_load(file.read_text()).get("images", ())
        if image["name"].startswith("warmline-") and "newTag" in image
    }
    assert tags == {VERSION}


def test_no_other_place_says_which_version_this_is() -> None:
    """The code reads it from the installed package's metadata."""
    files = [file for folder in ("api", "config", "pollers", "warmline", "workers") for file in _python(folder)]
    assert [file for file in files if re.search(rf"[\"']v?{re.escape(VERSION)}[\"']", file.read_text())] == []


def _python(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def test_every_decision_has_its_number_its_parts_and_its_place_in_the_list() -> None:
    pages = sorted(path for path in DECISIONS.glob("*.md") if path.name != "README.md")
    assert [path.name[:5] for path in pages] == [f"{number:04}-" for number in range(1, len(pages) + 1)]
    rows = re.findall(r"^\| \[(\d{4})\]\((.+?)\) \| (.+) \|$", (DECISIONS / "README.md").read_text(), re.MULTILINE)
    listed = {name: (number, title) for number, name, title in rows}
    assert sorted(listed) == [path.name for path in pages]
    for path in pages:
        text = path.read_text()
        assert listed[path.name] == (path.name[:4], text.splitlines()[0].removeprefix("# "))
        assert "**Decided:**" in text, path.name
        assert "\n## Why\n" in text, path.name


def test_every_package_has_a_licence_that_was_looked_at_and_the_page_is_up_to_date() -> None:
    done = _deploy("make_licenses.py", "--check")
    assert done.returncode == 0, done.stderr


def test_a_licence_that_nobody_looked_at_is_refused() -> None:
    script = (
        "import sys; sys.path.insert(0, 'deploy'); from make_licenses import spdx; print(spdx('x', sys.argv[1]))"
    )
    for said, ends in {
        "MIT": "MIT",
        "Apache Software License; BSD License": "Apache-2.0 OR BSD",
        "GPL-3.0-only": None,
        "MIT AND AGPL-3.0-or-later": None,
        "GNU General Public License v2 (GPLv2)": None,
        "UNKNOWN": None,
        "": None,
    }.items():
        done = subprocess.run(
            [sys.executable, "-c", script, said], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert (done.stdout.strip() or None) == ends, said
        assert (done.returncode == 0) == (ends is not None), said


@pytest.mark.slow
def test_the_sbom_of_the_api_is_one(tmp_path: Path) -> None:
    file = tmp_path / "sbom.json"
    done = _deploy("make_sbom.py", "api", str(file))
    assert done.returncode == 0, done.stderr
    document = json.loads(file.read_text())
    assert document["metadata"]["component"]["version"] == VERSION
    assert "timestamp" not in document["metadata"]
    assert "serialNumber" not in document
    names = {component["name"].lower() for component in document["components"]}
    assert {"fastapi", "celery", "redis", "boto3", "flower"} <= names
    assert not {"torch", "numpy", "pytest", "mypy"} & names
    assert str(ROOT) not in file.read_text()
    # Against CycloneDX's own schema, which takes a second a package: the first ones, and all in `make sbom`
    few = document | {"components": document["components"][:5], "dependencies": document["dependencies"][:1]}
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(few)) is None


def _deploy(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, f"deploy/{script}", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
