"""`warmline model info|pull|convert|check|quantize`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from config.logging import configure_logging
from config.settings import LogSettings, Settings, load_settings
from warmline.cli import consoles
from warmline.jobs.errors import InvalidRequest, ModelUnusable

if TYPE_CHECKING:
    from warmline.audio.windows import Samples
    from warmline.emotion.engine import Engine, EngineInfo
    from warmline.emotion.fidelity import Fidelity

SAMPLES = Path(__file__).parents[2] / "samples" / "calls"

CALIBRATION_WINDOWS = 128  # the ranges of a layer's inputs settle with some dozens
MIN_CALIBRATION_WINDOWS = 48
CHECK_WINDOWS = 1000

app = typer.Typer(help="Looks at models, fetches them, converts them.", no_args_is_help=True)
Name = Annotated[str, typer.Argument(help="mini, base, large, a hub id, or a FunASR model directory.")]


@app.command("info")
def info(name: Name = "") -> None:
    """Says what a model is: by default the one that the settings name."""
    from warmline.emotion.loading import open_model

    settings = load_settings().emotion
    model = open_model(name or settings.model, settings.models_dir)
    architecture = model.configuration.architecture
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_row("model", model.found.name + (" (bundled; for trying things out)" if model.found.mini else ""))
    table.add_row("directory", str(model.found.directory))
    table.add_row("sha256 of weights", model.hash())
    table.add_row("labels", ", ".join(model.labels.names))
    table.add_row("width, blocks, heads", f"{architecture.embed_dim}, {architecture.prenet_depth} + "
                  f"{architecture.depth}, {architecture.num_heads}")  # fmt: skip
    table.add_row("shortest window", f"{architecture.min_samples} samples at 16 kHz")
    consoles.results().print(table)


@app.command("pull")
def pull(name: Name = "large") -> None:
    """Fetches a model from the hub and converts it. Needs a network."""
    from warmline.emotion import hub

    settings = load_settings().emotion
    notes = consoles.notes()
    notes.print(f"fetching {name} (large: about 1.2 GB)")
    found = hub.pull(name, settings.models_dir.expanduser())
    notes.print(f"{found.name} is in {found.directory}")
    convert(name)
    notes.print(f"Use it with WARMLINE_MODEL={name}")


@app.command("convert")
def convert(name: Name) -> None:
    """Converts a model's weights now, instead of at its first use, and traces it for the openvino engine."""
    from warmline.emotion.loading import open_model
    from warmline.emotion.openvino_model import find_traced
    from warmline.emotion.placement import choose_placement

    settings = load_settings().emotion
    model = open_model(name, settings.models_dir)
    placement = choose_placement(settings, threads=1)
    on_openvino = placement.engine == "openvino"  # it casts what it needs by itself
    with consoles.notes().status(f"converting {model.found.name} to {placement.precision}"):
        weights = model.convert("fp32" if on_openvino else placement.precision)
        if weights.file is None:
            raise ModelUnusable(
                f"{settings.models_dir} cannot be written to; set WARMLINE_MODELS_DIR to a place that can."
            )
        files = [weights.file]
        if on_openvino:
            files.append(find_traced(weights, model.configuration.architecture))
    for file in files:
        consoles.results().print(str(file), soft_wrap=True)


@app.command("check")
def check(
    name: Name,
    clips: Annotated[
        Path | None, typer.Option(help="A folder of recordings; without it the sample calls.")
    ] = None,
    engine: Annotated[str, typer.Option(help="auto, torch, openvino or funasr.")] = "auto",
    precision: Annotated[str, typer.Option(help="auto, fp32, bf16 or int8.")] = "auto",
    windows: Annotated[int, typer.Option(min=1, help="At most so many windows of speech.")] = CHECK_WINDOWS,
) -> None:
    """Measures how near an engine's scores come to torch's in fp32, and remembers it.

    Exit code 1 where it misses the goal of its precision, which then is not used without an explicit flag. With
    too few windows to tell, nothing is remembered.
    """
    settings = load_settings(WARMLINE_MODEL=name, WARMLINE_ENGINE=engine, WARMLINE_PRECISION=precision)
    configure_logging(LogSettings(level="ERROR", format="console"), process="cli")
    with consoles.stdout_for_results_only():
        reference = _load(settings, engine="torch", precision="fp32", device="cpu")
        candidate = _load(settings, allow_inaccurate=True)
        spoken = _read_windows(clips, settings, reference.min_samples, windows)
        if not spoken:
            raise InvalidRequest(
                f"There is no speech in {clips or SAMPLES}. Give --clips a folder with recordings."
            )
        fidelity = _measure(reference, candidate, spoken)
        _remember(settings, candidate.info, fidelity)
    _print(candidate.info, fidelity)


@app.command("quantize")
def quantize(
    name: Name,
    clips: Annotated[Path, typer.Option(help="A folder of recordings like those that will be scored.")],
    windows: Annotated[
        int, typer.Option(min=MIN_CALIBRATION_WINDOWS, help="Windows to calibrate with, at most.")
    ] = CALIBRATION_WINDOWS,
) -> None:
    """Makes an int8 model for the openvino engine with your recordings, and measures it on others of them."""
    from warmline.emotion.fidelity import GOALS
    from warmline.emotion.loading import open_model
    from warmline.emotion.openvino_quantize import import_nncf
    from warmline.emotion.openvino_quantize import quantize as quantize_model

    settings = load_settings(WARMLINE_MODEL=name, WARMLINE_ENGINE="openvino", WARMLINE_PRECISION="int8")
    configure_logging(LogSettings(level="ERROR", format="console"), process="cli")
    with consoles.stdout_for_results_only():
        import_nncf()  # before anybody waits for the recordings to be read
        model = open_model(name, settings.emotion.models_dir)
        min_samples = model.configuration.architecture.min_samples
        spoken = _read_windows(clips, settings, min_samples, windows + CHECK_WINDOWS)
        calibrating = min(windows, len(spoken) - GOALS["int8"].min_windows)
        if calibrating < MIN_CALIBRATION_WINDOWS:
            needed = MIN_CALIBRATION_WINDOWS + GOALS["int8"].min_windows
            raise InvalidRequest(
                f"{clips} has only {len(spoken)} windows of speech: at least {needed} are needed, one part to"
                " calibrate with and another to measure on."
            )
        with consoles.notes().status(f"quantizing {model.found.name} with {calibrating} windows"):
            quantize_model(model, spoken[:calibrating])
        reference = _load(settings, engine="torch", precision="fp32", device="cpu")
        candidate = _load(settings, allow_inaccurate=True)
        fidelity = _measure(reference, candidate, spoken[calibrating:])
        _remember(settings, candidate.info, fidelity)
    _print(candidate.info, fidelity)


def _load(settings: Settings, **chosen: str | bool) -> Engine:
    from warmline.emotion.loading import load_engine
    from warmline.emotion.plan import look_at_machine, make_plan

    emotion = settings.emotion.model_copy(update=chosen)
    plan = make_plan(emotion, look_at_machine(), children=1)
    return load_engine(emotion, threads=plan.threads)


def _read_windows(clips: Path | None, settings: Settings, min_samples: int, limit: int) -> list[Samples]:
    """Windows of speech in an order that repeats. Raises InvalidRequest where there are no recordings."""
    from warmline.calls.clips import find_clips, read_windows

    if clips is None and not SAMPLES.is_dir():
        raise InvalidRequest("There are no sample calls here. Give --clips a folder with recordings.")
    files = find_clips(clips or SAMPLES)
    with consoles.progress_bar(consoles.notes()) as bar:
        task = bar.add_task("reading recordings", total=len(files))
        return read_windows(
            files,
            settings.audio,
            min_samples=min_samples,
            limit=limit,
            on_progress=lambda done: bar.update(task, completed=done),
        )


def _measure(reference: Engine, candidate: Engine, spoken: list[Samples]) -> Fidelity:
    from warmline.emotion.fidelity import compare

    with consoles.progress_bar(consoles.notes()) as bar:
        task = bar.add_task("scoring with both engines", total=len(spoken))
        return compare(reference, candidate, spoken, lambda done: bar.update(task, completed=done))


def _remember(settings: Settings, info: EngineInfo, fidelity: Fidelity) -> None:
    from warmline.emotion.fidelity import GOALS, write_record
    from warmline.emotion.loading import open_model

    if fidelity.windows < GOALS[info.precision].min_windows:
        return
    folder = open_model(settings.emotion.model, settings.emotion.models_dir).converted_folder()
    try:
        write_record(folder, fidelity, engine=info.engine, precision=info.precision)
    except OSError as error:
        raise ModelUnusable(
            f"What was measured cannot be kept in {folder}: {error.strerror or error}. Set WARMLINE_MODELS_DIR to"
            " a place that can be written to."
        ) from None


def _print(info: EngineInfo, fidelity: Fidelity) -> None:
    """What was measured, beside its goal; ends the command with exit code 1 where that is missed."""
    from warmline.emotion.fidelity import GOALS

    goal = GOALS[info.precision]
    verdict = "reached" if goal.is_met(fidelity) else "MISSED"
    if fidelity.windows < goal.min_windows:
        verdict = f"not to be told with fewer than {goal.min_windows} windows, and so not remembered"
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_row("model", info.model)
    table.add_row("engine", f"{info.engine} in {info.precision} on {info.device}")
    table.add_row("windows", f"{fidelity.windows}")
    table.add_row("same top label as torch in fp32", f"{fidelity.same_top_share:.2%}")
    table.add_row("largest difference of a probability", f"{fidelity.largest_difference:.2g}")
    if fidelity.same_top < fidelity.windows:
        table.add_row("of labels that changed, widest lead", f"{fidelity.widest_flipped_margin:.2g}")
    table.add_row("goal", f"{goal}: {verdict}")
    consoles.results().print(table)
    if verdict == "MISSED":
        raise typer.Exit(1)
