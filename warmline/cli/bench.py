"""`warmline bench`: the public benchmark on this machine, with the settings' model."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from config.settings import Settings, load_settings
from warmline.jobs.errors import InvalidRequest

RANDOM_LARGE = "random-large"
NEEDED = {"torch": "worker", "funasr": "worker", "supervisor": "local", "uvicorn": "api"}


def bench(
    rows: Annotated[str, typer.Option(help="Which rows, e.g. 1,5 or 10.mini.bf16; all unless given.")] = "",
    model: Annotated[
        str,
        typer.Option(
            help=f"As WARMLINE_MODEL, which is also the default; {RANDOM_LARGE}: large with random weights."
        ),
    ] = "",
    engine: Annotated[str, typer.Option(help="auto, torch or openvino; the settings' unless given.")] = "",
    precision: Annotated[str, typer.Option(help="auto, fp32, bf16 or int8; the settings' unless given.")] = "",
    rounds: Annotated[int, typer.Option(min=1, help="How often Warmline and its peer take turns.")] = 3,
    clips: Annotated[Path | None, typer.Option(help="Recordings for the fidelity; may have a labels.csv.")] = None,
    windows: Annotated[int, typer.Option(min=2, help="Most windows for the fidelity of a slow model.")] = 16,
    json_file: Annotated[Path, typer.Option("--json", help="Where the results are written.")] = Path(
        "warmline-bench.json"
    ),
    quick: Annotated[bool, typer.Option("--quick", help="A smoke run whose figures mean nothing.")] = False,
) -> None:
    """Measures Warmline beside FunASR and OpenVINO on this machine: speed, start, memory, fidelity."""
    settings = load_settings(with_stack=False)
    if importlib.util.find_spec("benchmarks") is None:
        raise InvalidRequest("The benchmark is not part of this installation: run `make bench` in a clone.")
    if missing := {name: role for name, role in NEEDED.items() if importlib.util.find_spec(name) is None}:
        raise InvalidRequest(
            f"The benchmark needs {', '.join(missing)}:"
            f" run `pip install 'warmline[{','.join(sorted(set(missing.values())))}]'`."
        )
    command = [sys.executable, "-m", "benchmarks", "--json", str(json_file), "--rounds", str(rounds)]
    given = {"--rows": rows, "--engine": engine, "--precision": precision, "--clips": str(clips or "")}
    given["--model"] = _model_directory(model, settings, quick=quick)
    command += ["--windows", str(windows), *(["--quick"] if quick else [])]
    command += [word for option, value in given.items() if value for word in (option, value)]
    # In this process's place: the domain may not import what measures it, and a Ctrl-C goes to one process.
    sys.stdout.flush()
    os.execv(sys.executable, command)  # noqa: S606 - our own interpreter, no shell


def _model_directory(model: str, settings: Settings, *, quick: bool) -> str:
    """Where the model is; empty for the benchmark's own."""
    from warmline.emotion.hub import find_model

    if model == RANDOM_LARGE or (quick and not model):
        return ""
    return str(find_model(model or settings.emotion.model, settings.emotion.models_dir.expanduser()).directory)
