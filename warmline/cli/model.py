"""`warmline model info|pull|convert`."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table

from config.settings import load_settings
from warmline.cli import consoles
from warmline.jobs.errors import ModelUnusable

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
    """Converts a model's weights to safetensors now, instead of at its first use."""
    from warmline.emotion.loading import open_model
    from warmline.emotion.placement import choose_placement

    settings = load_settings().emotion
    model = open_model(name, settings.models_dir)
    placement = choose_placement(settings, threads=1)
    with consoles.notes().status(f"converting {model.found.name} to {placement.precision}"):
        weights = model.convert(placement.precision)
    if weights.file is None:
        raise ModelUnusable(
            f"{settings.models_dir} cannot be written to; set WARMLINE_MODELS_DIR to a place that can."
        )
    consoles.results().print(str(weights.file), soft_wrap=True)
