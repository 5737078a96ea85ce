"""Writes what an installation consists of as a CycloneDX document: `make_sbom.py api dist/sbom-api.json`.

cyclonedx-py describes the whole virtual environment, which has the tests' tools too; what the part does not need
is left out here. The same environment gives the same document to the byte: no time, no serial number.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from installed import closure
from make_licenses import PARTS
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]


def sbom(part: str) -> dict[str, Any]:
    """The document of a part (see PARTS). Raises SystemExit where something of it is not installed."""
    needed = closure(PARTS[part])
    whole = _environment()
    kept = [each for each in whole["components"] if canonicalize_name(each["name"]) in needed]
    missing = needed.keys() - {canonicalize_name(each["name"]) for each in kept}
    if missing:
        raise SystemExit(f"not in the environment's own list: {', '.join(sorted(missing))}")
    root = whole["metadata"]["component"]
    refs = {root["bom-ref"], *(each["bom-ref"] for each in kept)}
    whole["components"] = kept
    whole["dependencies"] = [
        each | {"dependsOn": [ref for ref in each.get("dependsOn", ()) if ref in refs]}
        for each in whole["dependencies"]
        if each["ref"] in refs
    ]
    root["properties"] = [{"name": "warmline:part", "value": part}]
    return whole


def _environment() -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "all.json"
        arguments = (
            "--output-reproducible",
            "--no-validate",
            "--pyproject",
            str(ROOT / "pyproject.toml"),
            "-o",
            str(file),
        )
        subprocess.run(
            [sys.executable, "-m", "cyclonedx_py", "environment", *arguments, sys.executable],
            check=True,
            stderr=subprocess.DEVNULL,
        )
        document: dict[str, Any] = json.loads(file.read_text())
        return document


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] not in PARTS:
        raise SystemExit(f"usage: make_sbom.py {'|'.join(PARTS)} FILE")
    target = Path(sys.argv[2])
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(sbom(sys.argv[1]), indent=2, sort_keys=True) + "\n")
