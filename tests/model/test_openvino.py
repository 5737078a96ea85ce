"""OpenVINO gives the torch engine's scores, is traced once, and tells nobody."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from config.settings import EmotionSettings
from tests.model.conftest import LoadEngine
from tests.model.random_checkpoints import windows, write_random_model
from warmline.emotion import openvino_engine
from warmline.emotion.engine import Engine, score, warm
from warmline.emotion.hub import MINI_DIRECTORY
from warmline.emotion.loading import load_engine, open_model
from warmline.jobs.errors import ModelUnusable

ROOT = Path(__file__).parents[2]

# Beside the plain one: no ALiBi or one scale for all heads, an even kernel (a frame too many), nothing in front
# of the frames, no normalisation. Whatever a model directory may ask for has to survive the trace.
VARIANTS = {
    "plain": {},
    "without ALiBi": {"use_alibi_encoder": "false"},
    "fewer ALiBi heads": {"num_alibi_heads": 2},
    "even kernel": {"conv_pos_width": 20},
    "no extra tokens": {"num_extra_tokens": 0},
    "not normalised": {"normalize": "false"},
}


def load_pair(load: LoadEngine, directory: Path) -> tuple[Engine, Engine]:
    return load(directory), load(directory, engine="openvino")


@pytest.fixture
def directory(tiny: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny, tmp_path / "model"))


def load_into(directory: Path, models_dir: Path, **options: str) -> Engine:
    chosen = {"engine": "openvino", "precision": "fp32", "device": "cpu", **options}
    settings = EmotionSettings.model_validate({"model": str(directory), "models_dir": models_dir, **chosen})
    return load_engine(settings, threads=1)


@pytest.mark.parametrize("variant", VARIANTS)
def test_it_scores_as_torch_does_at_every_length(load: LoadEngine, tmp_path: Path, variant: str) -> None:
    # Given both engines with the same weights
    directory = write_random_model(tmp_path / "model", "tiny", changes=VARIANTS[variant])
    reference, engine = load_pair(load, directory)
    # When windows of one frame to 30 s are scored, none as long as the one that was traced
    audio = windows((400, 719, 720, 5_003, 15_999, 80_000, 30 * 16_000))
    expected, scores = score(reference, audio), score(engine, audio)
    # Then the scores are the same
    np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-4)
    assert (scores.argmax(axis=1) == expected.argmax(axis=1)).all()
    assert scores.dtype == np.float32
    # And the windows differ enough for that to mean something
    assert np.abs(expected - expected[0]).max() > 0.1


def test_the_mini_model_scores_the_same(load: LoadEngine) -> None:
    reference, engine = load_pair(load, MINI_DIRECTORY)
    audio = windows((engine.min_samples, 8_000, 31_999, 80_000))
    np.testing.assert_allclose(score(engine, audio), score(reference, audio), rtol=0, atol=1e-5)
    assert (engine.info.engine, engine.info.precision, engine.info.mini) == ("openvino", "fp32", True)
    warm(engine)


def test_neighbours_change_nothing_and_scores_repeat_exactly(load: LoadEngine, tiny: Path) -> None:
    engine = load(tiny, engine="openvino")
    quiet, loud, other = windows((9_000, 16_000, 720))
    broken = np.full(16_000, np.nan, dtype=np.float32)
    alone = score(engine, [quiet])
    together = score(engine, [loud * 1000, broken, quiet, other])
    np.testing.assert_array_equal(together[2:3], alone)
    assert not np.isfinite(together[1]).any()
    assert score(engine, []).shape == (0, 9)


def test_silence_has_scores(load: LoadEngine, tiny: Path) -> None:
    reference, engine = load_pair(load, tiny)
    audio = [np.zeros(8_000, dtype=np.float32), np.ones(8_000, dtype=np.float32)]
    np.testing.assert_allclose(score(engine, audio), score(reference, audio), rtol=0, atol=1e-4)


def test_a_window_longer_than_any_of_speech_goes_to_torch(
    load: LoadEngine, tiny: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reference, engine = load_pair(load, tiny)
    at_limit, beyond = windows((openvino_engine.LONGEST_SAMPLES, openvino_engine.LONGEST_SAMPLES + 1))
    score(engine, [at_limit])
    assert "long_windows_in_torch" not in capsys.readouterr().out
    audio = [at_limit, beyond, at_limit, beyond]
    output = engine.infer(engine.prepare(audio), embeddings=True)
    assert capsys.readouterr().out.count("long_windows_in_torch") == 1
    np.testing.assert_allclose(engine.finish(output), score(reference, audio), rtol=0, atol=1e-4)
    # Torch's own to the last digit
    alone = reference.embeddings(reference.infer(reference.prepare([beyond])))
    np.testing.assert_array_equal(engine.embeddings(output)[1], alone[0])


@pytest.mark.parametrize("samples", [np.zeros(399, np.float32), np.zeros((2, 800), np.float32)])
def test_too_short_or_two_dimensional_is_the_callers_mistake(
    load: LoadEngine, tiny: Path, samples: np.ndarray
) -> None:
    with pytest.raises(ValueError, match="400 samples"):
        load(tiny, engine="openvino").prepare([samples])


def test_a_label_that_is_not_in_use_has_no_part_in_the_softmax(load: LoadEngine, tmp_path: Path) -> None:
    tokens = "angry\nunuse_0\nhappy\n"
    directory = write_random_model(tmp_path / "model", "tiny", tokens=tokens)
    reference, engine = load_pair(load, directory)
    audio = windows((16_000, 9_000))
    assert score(engine, audio).shape == (2, 2)
    np.testing.assert_allclose(score(engine, audio), score(reference, audio), rtol=0, atol=1e-4)


def test_a_precision_is_what_runs_or_an_error(load: LoadEngine, tiny: Path) -> None:
    # Given a CPU with bf16 for OpenVINO, it runs; given one without, nothing else runs under its name
    try:
        engine = load(tiny, engine="openvino", precision="bf16")
    except ModelUnusable as error:
        assert "WARMLINE_PRECISION" in error.message  # noqa: PT017 (either end is right)
    else:
        audio = windows((16_000, 9_000))
        assert engine.info.precision == "bf16"
        assert np.abs(score(engine, audio) - score(load(tiny), audio)).max() > 1e-6


def test_int8_without_quantizing_names_the_command(load: LoadEngine, tiny: Path) -> None:
    with pytest.raises(ModelUnusable, match=r"warmline model quantize .*tiny --clips DIR"):
        load(tiny, engine="openvino", precision="int8")


def test_it_is_traced_once(directory: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    engines = [load_into(directory, tmp_path) for _ in range(2)]
    assert capsys.readouterr().out.count("openvino_model_traced") == 1
    (file,) = tmp_path.glob("converted/*/openvino-fp32-1/model.xml")
    assert file.stat().st_mode & 0o777 == 0o644
    assert file.parent.stat().st_mode & 0o777 == 0o755
    audio = windows((16_000,))
    np.testing.assert_array_equal(*(score(engine, audio) for engine in engines))


@pytest.mark.parametrize("name", ["model.xml", "model.bin"])
@pytest.mark.parametrize("kept", [0.0, 0.5, None])
def test_a_damaged_file_is_made_anew(
    directory: Path, tmp_path: Path, name: str, kept: float | None, capsys: pytest.CaptureFixture[str]
) -> None:
    # Given a traced model whose file is cut short, or gone
    audio = windows((16_000,))
    expected = score(load_into(directory, tmp_path), audio)
    (file,) = tmp_path.glob(f"converted/*/openvino-fp32-1/{name}")
    whole = file.read_bytes()
    if kept is None:
        file.unlink()
    else:
        file.write_bytes(whole[: int(kept * len(whole))])
    # When it is loaded
    scores = score(load_into(directory, tmp_path), audio)
    # Then it scores as before, and the file is whole again
    np.testing.assert_array_equal(scores, expected)
    assert file.stat().st_size == len(whole)
    assert not list(tmp_path.rglob("*.partial"))
    said = capsys.readouterr().out
    assert said.count("openvino_model_traced") == 2
    assert ("openvino_model_broken" in said) == (kept is not None or name == "model.bin")


def test_a_models_dir_that_cannot_be_written_costs_the_next_start_time_and_no_more(
    directory: Path, tmp_path: Path, load: LoadEngine, capsys: pytest.CaptureFixture[str]
) -> None:
    # Given a file where the directory should be
    (tmp_path / "models").write_text("in the way")
    engine = load_into(directory, tmp_path / "models")
    assert "model_not_converted" in capsys.readouterr().out
    audio = windows((16_000, 720))
    np.testing.assert_allclose(score(engine, audio), score(load(directory), audio), rtol=0, atol=1e-4)


LOADING = """
import sys
from pathlib import Path

def refuse(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"):
        print("NETWORK", event, arguments, file=sys.stderr)

sys.addaudithook(refuse)
from config.logging import configure_logging
from config.settings import EmotionSettings, LogSettings
from warmline.emotion.engine import warm
from warmline.emotion.loading import load_engine, open_model

configure_logging(LogSettings(), process="test")
settings = EmotionSettings(model=sys.argv[1], models_dir=Path(sys.argv[2]), engine="openvino", precision="fp32")
print("ready", flush=True)
sys.stdin.readline()
engine = load_engine(settings, threads=1)
warm(engine)
print("scored")
"""


def start_loading(directory: Path, models_dir: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", LOADING, str(directory), str(models_dir)],
        # A home of its own, with no opt-out in it, and no sign of a test or of CI that would switch telemetry off.
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "HOME": str(models_dir),
        },
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_processes_that_start_together_trace_once_and_nothing_goes_over_the_network(
    directory: Path, tmp_path: Path
) -> None:
    # Given converted weights, and two processes that load them at the same moment
    open_model(str(directory), tmp_path).convert("fp32")
    processes = [start_loading(directory, tmp_path) for _ in range(2)]
    for process in processes:
        assert process.stdout is not None
        assert "ready" in process.stdout.readline()
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go on\n")
        process.stdin.flush()
    ends = [process.communicate(timeout=120) for process in processes]
    # Then both score, one of them has traced, nothing half-written is left
    assert [process.returncode for process in processes] == [0, 0], ends
    assert sum(err.count("openvino_model_traced") + out.count("openvino_model_traced") for out, err in ends) == 1
    assert not list(tmp_path.rglob("*.partial"))
    # And OpenVINO's reports to its maker were not even tried, nor were their identity files made
    assert all("NETWORK" not in err for _, err in ends)
    assert not (tmp_path / "intel").exists()
