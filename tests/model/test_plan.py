"""The plan, from a machine and the settings to engine, processes and threads. Any machine can be planned here."""

from __future__ import annotations

from pathlib import Path

import pytest

from config.settings import EmotionSettings, WorkerSettings
from warmline.emotion.plan import CHILD_BYTES, Machine, look_at_machine, make_plan, memory_needed, plan_worker
from warmline.emotion.self_measurement import measure
from warmline.jobs.errors import ModelUnusable

GIB = 2**30


def machine(cores: int = 8, *, gpus: int = 0, bf16: bool = False, openvino: bool = True, gib: int = 64) -> Machine:
    flags = frozenset({"avx2", "amx_bf16"} if bf16 else {"avx2"})
    return Machine(cores=cores, memory_bytes=gib * GIB, gpus=gpus, cpu_flags=flags, has_openvino=openvino)


def settings(**values: object) -> EmotionSettings:
    return EmotionSettings.model_validate(values)


@pytest.mark.parametrize("cores", [1, 2, 3, 8, 64])
@pytest.mark.parametrize("children", [0, 1, 2, 5])
@pytest.mark.parametrize("bf16", [False, True])
def test_engines_and_their_threads_never_pass_the_cores(cores: int, children: int, bf16: bool) -> None:
    plan = make_plan(settings(), machine(cores, bf16=bf16), children=children)
    engines = plan.hosts or plan.children
    assert children in {plan.children, 0}
    assert plan.threads >= 1
    assert engines * plan.threads <= max(cores, engines)  # children as configured have one thread at least


@pytest.mark.parametrize(
    ("given", "on", "engine", "precision", "hosts", "children", "threads"),
    [
        ({}, machine(8), "torch", "fp32", 0, 8, 1),
        ({}, machine(8, bf16=True), "openvino", "bf16", 1, 2, 8),
        ({}, machine(8, bf16=True, openvino=False), "torch", "bf16", 0, 8, 1),
        ({"precision": "fp32"}, machine(8, bf16=True), "torch", "fp32", 0, 8, 1),
        ({"precision": "int8"}, machine(4), "openvino", "int8", 1, 2, 4),
        ({"engine": "funasr"}, machine(8, bf16=True), "funasr", "fp32", 0, 1, 8),
        ({"threads": 4}, machine(8), "torch", "fp32", 0, 2, 4),
        ({"device": "cpu"}, machine(8, gpus=2), "torch", "fp32", 0, 8, 1),
        ({}, machine(16, gpus=1), "torch", "auto", 1, 15, 1),
        ({}, machine(16, gpus=8), "torch", "auto", 8, 16, 1),
        ({"device": "cuda:3"}, machine(16, gpus=8), "torch", "auto", 1, 15, 1),
    ],
    ids=["plain", "amx", "amx-no-openvino", "fp32", "int8", "funasr", "threads", "cpu", "gpu", "gpus", "one-gpu"],
)
def test_what_a_machine_gets(
    given: dict[str, object], on: Machine, engine: str, precision: str, hosts: int, children: int, threads: int
) -> None:
    plan = make_plan(settings(**given), on)
    assert (plan.engine, plan.precision, plan.hosts) == (engine, precision, hosts)
    assert (plan.children, plan.threads) == (children, threads)
    assert plan.reason


@pytest.mark.parametrize(
    ("given", "on", "hosts", "children", "threads"),
    [
        ({}, machine(8), 1, 2, 8),
        ({}, machine(8), 2, 4, 4),
        ({}, machine(8), 0, 8, 1),
        ({}, machine(8, bf16=True), 0, 1, 8),
        ({"threads": 3}, machine(8), 1, 2, 3),
        ({}, machine(16, gpus=2), 0, 2, 1),
        ({}, machine(16, gpus=1), 2, 15, 1),
    ],
)
def test_as_many_hosts_as_are_asked_for(
    given: dict[str, object], on: Machine, hosts: int, children: int, threads: int
) -> None:
    plan = make_plan(settings(**given), on, hosts=hosts)
    assert (plan.hosts, plan.children, plan.threads) == (hosts, children, threads)
    assert make_plan(settings(**given), on, hosts=hosts, children=5).children == 5


def test_a_small_memory_has_fewer_children() -> None:
    plan = make_plan(settings(), machine(64, gib=4))
    assert 1 <= plan.children < 64
    assert plan.children * CHILD_BYTES <= 4 * GIB
    assert plan.children * plan.threads <= 64


def test_shared_weights_are_counted_once_and_others_for_each_process() -> None:
    def needed(**given: object) -> float:
        return memory_needed(make_plan(settings(**given), machine(8), children=4), weights_bytes=GIB)

    assert needed(engine="torch") == GIB + 4 * CHILD_BYTES
    assert needed(engine="funasr") == 4 * (GIB + CHILD_BYTES)
    assert needed(engine="openvino") < needed(engine="funasr")


def test_this_machine_can_be_looked_at() -> None:
    here = look_at_machine()
    assert here.cores >= 1
    assert here.memory_bytes > 0
    assert "sse2" not in here.cpu_flags  # only what decides something


def test_all_engines_of_a_plan_are_measured_together(models_dir: Path) -> None:
    # Given a plan of two children, when it is measured for a moment
    given = settings(models_dir=models_dir, device="cpu", engine="torch")
    plan = make_plan(given, machine(2), children=2)
    measured = measure(given, plan, seconds=0.3)
    # Then both have scored, and what ran is what was planned
    assert measured.engines == 2
    assert (measured.info.engine, measured.info.threads) == ("torch", 1)
    assert measured.rtfx > 1


def test_a_model_that_cannot_be_loaded_ends_the_measurement_with_its_error(tmp_path: Path) -> None:
    given = settings(model=str(tmp_path), models_dir=tmp_path, device="cpu")
    with pytest.raises(ModelUnusable):
        measure(given, make_plan(given, machine(2), children=2))


def test_children_for_live_are_beside_the_others_and_take_memory() -> None:
    # Given a worker of four cores, with and without two children for the live lane
    without = make_plan(settings(), machine(4))
    beside = make_plan(settings(), machine(4), live_children=2)
    # Then the others are as many as before, with as many threads, and the memory of all is counted
    assert (beside.children, beside.threads) == (without.children, without.threads) == (4, 1)
    assert beside.all_children == 6
    more = memory_needed(beside, weights_bytes=1e9) - memory_needed(without, weights_bytes=1e9)
    assert more == 2 * CHILD_BYTES
    # And where memory decides, they are part of what must fit
    assert make_plan(settings(), machine(64, gib=8), live_children=2).all_children == (
        make_plan(settings(), machine(64, gib=8)).children
    )


@pytest.mark.parametrize(("lanes", "live_children"), [("live,bulk", 3), ("live", 0), ("bulk", 0)])
def test_a_worker_of_one_lane_has_none_for_live(lanes: str, live_children: int) -> None:
    worker = WorkerSettings.model_validate({"lanes": lanes, "live_children": 3, "children": 2})
    plan = plan_worker(settings(), worker, machine(2))
    assert (plan.children, plan.live_children) == (2, live_children)
