"""What is measured, in a process of its own: `python -m benchmarks.subject KIND SPEC`.

Says one JSON line when it is warm, then does its work once for each line on stdin and says how it went. Nothing is
imported here that a subject does not need: some are timed from their process's start.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from warmline.emotion.engine import Engine

    Windows = list[NDArray[np.float32]]


class Kind(Protocol):
    """A subject: made warm, then run again and again."""

    facts: dict[str, Any]

    def run(self, task: dict[str, Any]) -> dict[str, Any]:
        """Does the work once."""


def read_windows(path: str) -> Windows:
    """What `save_windows` wrote."""
    import numpy as np

    with np.load(path) as stored:
        return [stored[name] for name in sorted(stored.files)]


class Funasr:
    """FunASR as its own documentation has it: whole clips, one after another."""

    def __init__(self, *, model: str, threads: int, clips: str = "") -> None:
        started = time.perf_counter()
        from funasr import AutoModel

        imported = time.perf_counter()
        self._model = AutoModel(
            model=model, device="cpu", ncpu=threads, disable_update=True, disable_pbar=True, disable_log=True
        )
        loaded = time.perf_counter()
        self._score(_noise())
        warmed = time.perf_counter()
        self._clips = read_windows(clips) if clips else []
        self.facts = {"import": imported - started, "load": loaded - imported, "first": warmed - loaded}

    def run(self, _: dict[str, Any]) -> dict[str, Any]:
        """Scores the clips."""
        for clip in self._clips:
            self._score(clip)
        return {}

    def _score(self, clip: NDArray[np.float32]) -> None:
        self._model.generate(clip, granularity="utterance", extract_embedding=False)


class OurEngine:
    """Our engine on windows that are there already."""

    def __init__(self, *, threads: int, clips: str = "", index: int = 0) -> None:
        from warmline.emotion.engine import score

        self._engine, self.facts = load_and_warm(threads, index)
        self._score = score
        self._clips = read_windows(clips) if clips else []

    def run(self, task: dict[str, Any]) -> dict[str, Any]:
        """Scores the windows; `save` keeps the scores in a file."""
        import numpy as np

        at_once = self._engine.windows_at_once
        groups = [self._clips[start : start + at_once] for start in range(0, len(self._clips), at_once)]
        scores = [self._score(self._engine, group) for group in groups]
        if path := task.get("save"):
            np.save(path, np.concatenate(scores))
        return {}


class OurPipeline:
    """Our road from a file to its report, in one process: open, decode, find speech, cut, score, summarise."""

    def __init__(self, *, threads: int, call: str, index: int = 0) -> None:
        from config.settings import load_settings

        self._engine, self.facts = load_and_warm(threads, index)
        self._call = Path(call)
        settings = load_settings(with_stack=False)
        self._audio, self._analysis = settings.audio, settings.analysis

    def run(self, task: dict[str, Any]) -> dict[str, Any]:
        """Analyses the call, `times` times over: the wall seconds, and the process's peak memory so far."""
        from warmline.calls.analyze import Analyst, analyze_call
        from warmline.calls.report import SourceFacts
        from warmline.jobs.records import Options

        started = time.perf_counter()
        for _ in range(task.get("times", 1)):
            analyze_call(
                self._call,
                Analyst(engine=self._engine, audio=self._audio, analysis=self._analysis),
                source=SourceFacts(uri="benchmark", size_bytes=self._call.stat().st_size),
                options=Options(),
            )
        seconds = time.perf_counter() - started
        return {"seconds": seconds, "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}


def load_and_warm(threads: int, index: int) -> tuple[Engine, dict[str, Any]]:
    """The engine of the settings in this process's environment, warm."""
    from config.logging import configure_logging
    from config.settings import LogSettings, load_settings
    from warmline.emotion.engine import warm
    from warmline.emotion.loading import load_engine

    configure_logging(LogSettings(level="ERROR"), process="benchmark")
    started = time.perf_counter()  # everything is imported that loading needs at once
    engine = load_engine(load_settings(with_stack=False).emotion, threads=threads, child_index=index)
    loaded = time.perf_counter()
    warm(engine)
    info = engine.info
    facts = {
        "import": started - PROCESS_STARTED,
        "load": loaded - started,
        "first": time.perf_counter() - loaded,
        "engine": info.engine,
        "precision": info.precision,
        "labels": info.labels,
    }
    return engine, facts


def _noise() -> NDArray[np.float32]:
    """What our own engine warms up with on a CPU: the peer's first inference is to be no longer than ours."""
    import numpy as np

    return np.random.default_rng(0).standard_normal(4_000).astype(np.float32) * 0.1


def make(kind: str, spec: dict[str, Any]) -> Kind:
    """The subject of this kind. Those of other modules are imported for their own process alone."""
    made: Kind
    match kind:
        case "funasr":
            made = Funasr(**spec)
        case "engine":
            made = OurEngine(**spec)
        case "pipeline":
            made = OurPipeline(**spec)
        case "openvino":
            from benchmarks.bare_openvino import BareOpenvino

            made = BareOpenvino(**spec)
        case "floor":
            from benchmarks.floor import Floor

            made = Floor(**spec)
        case "random":
            from benchmarks.random_model import RandomModel

            made = RandomModel(**spec)
        case "quantized":
            from benchmarks.quantized import Quantized

            made = Quantized(**spec)
        case "fitted":
            from benchmarks.fitted_head import FittedHead

            made = FittedHead(**spec)
        case _:
            raise ValueError(f"there is no subject {kind}")
    return made


def main() -> None:
    """Runs the subject until stdin ends."""
    # FunASR and compiled code write to stdout: it is theirs, and ours is another file descriptor.
    ours = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def say(what: dict[str, Any]) -> None:
        ours.write(json.dumps(what, default=str) + "\n")
        ours.flush()

    try:
        subject = make(sys.argv[1], json.loads(sys.argv[2]))
        say(subject.facts)
        for line in sys.stdin:
            say(subject.run(json.loads(line)))
    except Exception as error:  # noqa: BLE001 - whatever it is, the table is to show it
        import traceback

        traceback.print_exc()
        # Our own errors are sentences; of another its type says more than its words.
        sentence = getattr(error, "message", "")
        say({"error": sentence or f"{sys.argv[1]}: {type(error).__name__}: {error}"})
        sys.exit(1)


PROCESS_STARTED = time.perf_counter()

if __name__ == "__main__":
    main()
