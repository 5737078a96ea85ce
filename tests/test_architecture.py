"""The house's rules that a linter has no word for."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("api", "config", "pollers", "warmline", "workers")
HEAVY = {"torch", "funasr", "numpy", "onnxruntime", "av", "soundfile", "transformers", "boto3", "pyarrow"}


def sources() -> Iterator[Path]:
    for package in PACKAGES:
        yield from (ROOT / package).rglob("*.py")


def test_only_the_settings_read_the_environment() -> None:
    readers = [
        path.relative_to(ROOT).as_posix()
        for path in sources()
        if re.search(r"\bos\.(environ|getenv)\b", path.read_text())
    ]
    assert readers == ["config/settings.py"]


def test_every_module_and_public_name_says_what_it_is_for() -> None:
    silent = []
    for path in sources():
        tree = ast.parse(path.read_text())
        where = path.relative_to(ROOT).as_posix()
        if not ast.get_docstring(tree):
            silent.append(where)
        silent.extend(
            f"{where}: {node.name}"
            for node in tree.body
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
            and not node.name.startswith("_")
            and not ast.get_docstring(node)
        )
    assert silent == []


def test_no_room_is_without_a_noun() -> None:
    nameless = {"utils.py", "util.py", "helpers.py", "common.py", "misc.py"}
    assert [path for path in sources() if path.name in nameless] == []


def test_packages_hold_a_docstring_and_nothing_else() -> None:
    for path in sources():
        if path.name == "__init__.py":
            assert len(ast.parse(path.read_text()).body) == 1, path


@pytest.mark.parametrize(
    "module",
    ["api.app", "pollers.app", "warmline.__main__", "warmline.cli.main", "warmline.jobs.queue", "config.settings"],
)
def test_what_only_workers_need_is_not_loaded_by(module: str) -> None:
    # Given a fresh interpreter, when the module is imported, then nothing heavy came with it
    heavy = HEAVY - {"boto3"} if module == "api.app" else HEAVY
    code = f"import sys, {module}; print(*sorted({heavy!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.split() == []
