"""The one place where a model is loaded: from the settings to an engine."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import structlog
import torch

from config.settings import EmotionSettings
from warmline.emotion.checkpoint import WEIGHTS_FILE, read_checkpoint
from warmline.emotion.configuration import Configuration, read_configuration
from warmline.emotion.converted import Weights, converted_folder, load_weights, model_hash_of
from warmline.emotion.device import EngineName, Precision
from warmline.emotion.engine import Engine, EngineInfo
from warmline.emotion.fidelity import refuse_inaccurate
from warmline.emotion.hub import FoundModel, find_model
from warmline.emotion.labels import STANDARD_LABELS, Labels, read_labels
from warmline.emotion.placement import Placement, choose_placement
from warmline.jobs.errors import ModelUnusable

log = structlog.get_logger()


@dataclass(frozen=True, kw_only=True)
class Model:
    """A model directory, read and checked, its weights aside."""

    found: FoundModel
    labels: Labels
    configuration: Configuration
    models_dir: Path

    def convert(self, precision: Precision) -> Weights:
        """Its weights, converted unless they are already. Raises ModelUnusable."""
        return load_weights(
            self.found.directory, self.configuration, models_dir=self.models_dir, precision=precision
        )

    def hash(self) -> str:
        """sha256 of model.pt's bytes, hex."""
        return model_hash_of(self.found.directory, self.models_dir)

    def converted_folder(self) -> Path:
        """Where all that is made of its weights is kept: conversions, and what was measured of their fidelity."""
        return converted_folder(self.found.directory, self.configuration, self.models_dir)


def open_model(name: str, models_dir: Path) -> Model:
    """Finds a model by name, hub id or path and checks its labels and configuration. Raises ModelUnusable."""
    models_dir = models_dir.expanduser()
    found = find_model(name, models_dir)
    labels = read_labels(found.directory)
    if found.standard and labels.names != STANDARD_LABELS:
        raise ModelUnusable(
            f"{found.directory} names the labels {', '.join(labels.names)}, but {found.name} has"
            f" {', '.join(STANDARD_LABELS)}. Fetch it again."
        )
    configuration = read_configuration(found.directory, labels=len(labels.tokens))
    return Model(found=found, labels=labels, configuration=configuration, models_dir=models_dir)


def load_engine(settings: EmotionSettings, *, threads: int, child_index: int = 0) -> Engine:
    """Loads the model that the settings name. Not yet warm: see `warm`.

    `threads` is this process's share of the cores (see `plan.py`); `child_index` chooses among GPUs.
    Raises ModelUnusable, DeviceUnavailable.
    """
    started = time.perf_counter()
    model = open_model(settings.model, settings.models_dir)
    placement = choose_placement(settings, threads=threads, child_index=child_index)
    refuse_inaccurate(
        model.converted_folder(),
        directory=model.found.directory,
        engine=placement.engine,
        precision=placement.precision,
        allowed=settings.allow_inaccurate,
    )
    # State of the whole process, and of one child its share: torch's default is all cores, in every child.
    torch.set_num_threads(threads)
    engine = _BUILDERS[placement.engine](model, placement)
    log.info(
        "model_loaded",
        model=engine.info.model,
        mini=engine.info.mini,
        engine=engine.info.engine,
        device=engine.info.device,
        precision=engine.info.precision,
        threads=threads,
        seconds=round(time.perf_counter() - started, 2),
    )
    return engine


def _torch(model: Model, placement: Placement) -> Engine:
    from warmline.emotion.torch_engine import TorchEngine, build_model, gpu_batch_samples, prepare_cuda

    weights = model.convert(placement.precision)
    network = build_model(model.configuration.architecture, weights, placement.device)
    batch_samples = 0
    if placement.device != "cpu":
        free_bytes = prepare_cuda(network, placement.device)
        element_bytes = 4 if placement.precision == "fp32" else 2
        batch_samples = gpu_batch_samples(network.architecture, element_bytes=element_bytes, free_bytes=free_bytes)
    return TorchEngine(
        network,
        model.labels,
        describe_engine(model, placement, weights.model_hash),
        batch_samples=batch_samples,
    )


def _funasr(model: Model, placement: Placement) -> Engine:
    from warmline.emotion.funasr_engine import FunasrEngine, load_auto_model

    # FunASR leaves a tensor that is missing or has another shape at its random start: it is refused here.
    read_checkpoint(model.found.directory / WEIGHTS_FILE, model.configuration)
    return FunasrEngine(
        load_auto_model(model.found, placement),
        model.labels,
        describe_engine(model, placement, model.hash()),
        min_samples=model.configuration.architecture.min_samples,
        embedding_dimensions=model.configuration.architecture.embed_dim,
    )


def _openvino(model: Model, placement: Placement) -> Engine:
    from warmline.emotion.openvino_engine import load_openvino_engine

    return load_openvino_engine(model, placement)


_BUILDERS: dict[EngineName, Callable[[Model, Placement], Engine]] = {
    "torch": _torch,
    "openvino": _openvino,
    "funasr": _funasr,
}


def describe_engine(model: Model, placement: Placement, model_hash: str) -> EngineInfo:
    """What a report says of a loaded engine."""
    return EngineInfo(
        model=model.found.name,
        model_hash=model_hash,
        mini=model.found.mini,
        labels=model.labels.names,
        engine=placement.engine,
        device=placement.device,
        precision=placement.precision,
        threads=placement.threads,
    )
