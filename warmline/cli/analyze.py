"""`warmline analyze FILE...`: the pipeline in one process, without servers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from config.logging import configure_logging
from config.settings import LogSettings, Settings, load_settings
from warmline.calls.report import Report, SourceFacts
from warmline.cli import consoles, job_options, pictures, tables
from warmline.cli.consoles import PLAIN
from warmline.jobs.errors import InternalError, InvalidRequest, WarmlineError
from warmline.jobs.records import Options

if TYPE_CHECKING:
    from warmline.calls.analyze import Analyst
    from warmline.calls.categories.rules import CategoryRules
    from warmline.calls.embeddings import EmbeddingWriter
    from warmline.emotion.engine import Engine

# What a command line may override, by option.
VARIABLES = {
    "model": "WARMLINE_MODEL",
    "engine": "WARMLINE_ENGINE",
    "precision": "WARMLINE_PRECISION",
    "device": "WARMLINE_DEVICE",
}


def analyze(
    files: Annotated[list[Path], typer.Argument(help="Recordings, of any format that plays.")],
    as_json: Annotated[
        bool, typer.Option("--json", help="One report a line on stdout, in the files' order, and nothing else.")
    ] = False,
    model: Annotated[str | None, typer.Option(help="mini, base, large, or a FunASR model directory.")] = None,
    engine: Annotated[str | None, typer.Option(help="auto, torch, openvino or funasr (the reference).")] = None,
    precision: Annotated[str | None, typer.Option(help="auto, fp32, bf16, fp16 or int8.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:N.")] = None,
    granularity: job_options.Granularity = "segment",
    hop: job_options.Hop = None,
    roles: job_options.Roles = "",
    exclude: job_options.Exclude = "",
    embedding: job_options.Embedding = "none",
    embeddings_dir: Annotated[
        Path | None, typer.Option(help="Where they are put, as RECORDING.npy or .parquet; beside the recordings.")
    ] = None,
    split_speakers: job_options.SplitSpeakers = False,
    categories: Annotated[
        Path | None, typer.Option(help="Rules that the reports are matched with; else WARMLINE_CATEGORIES_FILE's.")
    ] = None,
    plot: pictures.Plot = None,
    emotion: pictures.Emotion = "",
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show the log on stderr.")] = False,
) -> None:
    """Scores recordings in this process and shows their reports; exit code 0 only when all were scored."""
    from warmline.calls.categories.rules import CategoryRules

    pictures.check_picture(plot)
    given = {"model": model, "engine": engine, "precision": precision, "device": device}
    overrides: dict[str, Any] = {VARIABLES[name]: value for name, value in given.items() if value is not None}
    settings = load_settings(**overrides)
    configure_logging(LogSettings(level="INFO" if verbose else "ERROR", format="console"), process="cli")
    options = job_options.read_options(
        granularity=granularity,
        hop=hop,
        roles=roles,
        exclude=exclude,
        embedding=embedding,
        split_speakers=split_speakers,
    )
    rules = CategoryRules.read(categories) if categories is not None else CategoryRules.load(settings)
    embeddings = _Embeddings(options, embeddings_dir, files)
    failed = 0
    drawing = pictures.Drawing(f"{len(files)} files", emotion) if plot else None
    reports: list[tuple[str, Report]] = []
    with consoles.stdout_for_results_only() as out:
        for path, outcome in _analyze_all(files, settings, rules, options, embeddings):
            if isinstance(outcome, WarmlineError):
                failed += 1
                consoles.notes().print(f"{path}: {outcome.message} [{outcome.code}]", **PLAIN)
                continue
            if drawing is not None:
                drawing.add(outcome)
            if as_json:
                _print_line(out, outcome)
            else:
                reports.append((path.name, outcome))
    if len(reports) == 1:
        tables.print_report(consoles.results(), reports[0][1])
    elif reports:
        console = consoles.results()
        console.print(tables.calls_table(reports, console.width))
    if plot is not None and drawing is not None:
        drawing.write(plot)
    if failed:
        raise typer.Exit(1)


def _analyze_all(
    files: list[Path],
    settings: Settings,
    rules: CategoryRules | None,
    options: Options,
    embeddings: _Embeddings,
) -> Iterator[tuple[Path, Report | WarmlineError]]:
    """Each file with its report or what was wrong with it, in order."""
    from warmline.calls.analyze import Analyst

    analyst = Analyst(engine=_load(settings), audio=settings.audio, analysis=settings.analysis, categories=rules)
    with consoles.progress_bar(consoles.notes()) as bar:
        task = bar.add_task("calls", total=len(files))
        for path in files:
            bar.update(task, description=path.name)
            yield path, _analyze_one(path, analyst, options, embeddings)
            bar.advance(task)


def _load(settings: Settings) -> Engine:
    from warmline.emotion.loading import load_engine
    from warmline.emotion.plan import look_at_machine, make_plan

    with consoles.notes().status("loading the model"):
        plan = make_plan(settings.emotion, look_at_machine(), children=1)
        return load_engine(settings.emotion, threads=plan.threads)


class _Embeddings:
    """Where each recording's embeddings are put, if they are asked for."""

    def __init__(self, options: Options, directory: Path | None, files: list[Path]) -> None:
        """Raises InvalidRequest for a directory that cannot be used, and where two files would have one name."""
        self._format = options.embedding
        self._directory = directory
        if directory is None:
            return
        if self._format == "none":
            raise InvalidRequest("--embeddings-dir goes with --embedding npy or --embedding parquet")
        names = [path.name for path in files]
        if double := next((name for name in names if names.count(name) > 1), None):
            raise InvalidRequest(f"--embeddings-dir: two of the recordings are called {double}")
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InvalidRequest(f"--embeddings-dir: {directory}: {error.strerror}") from None

    @contextmanager
    def of(self, path: Path, engine: Engine) -> Iterator[EmbeddingWriter | None]:
        """A writer for this recording's. Raises InvalidRequest where the file cannot be written."""
        from warmline.calls.embeddings import EmbeddingWriter

        if self._format == "none" or not path.is_file():  # as the analysis will say
            yield None
            return
        file = (self._directory or path.parent) / f"{path.name}.{self._format}"
        dimensions = engine.embedding_dimensions
        try:
            writer = EmbeddingWriter(file, file_format=self._format, dimensions=dimensions, uri=str(file))
        except OSError as error:
            raise InvalidRequest(f"{file} cannot be written: {error.strerror}") from None
        with writer:
            yield writer


def _analyze_one(
    path: Path, analyst: Analyst, options: Options, embeddings: _Embeddings
) -> Report | WarmlineError:
    import structlog

    from warmline.calls.analyze import analyze_call

    try:
        source = SourceFacts(uri=str(path), size_bytes=path.stat().st_size if path.is_file() else 0)
        with embeddings.of(path, analyst.engine) as writer:
            return analyze_call(path, analyst, source=source, options=options, embeddings=writer)
    except WarmlineError as error:
        return error
    except Exception:  # noqa: BLE001 - one bad file must not cost the others their reports
        structlog.get_logger().exception("analysis_failed", call=str(path))
        return InternalError("Warmline failed on this file in a way it did not foresee; the lines above say how.")


def _print_line(out: TextIO, report: Report) -> None:
    out.write(report.model_dump_json() + "\n")
    out.flush()  # a reader at the other end of a pipe has each report as soon as it is there
