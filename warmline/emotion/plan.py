"""The plan: what the machine has -> which engine, in which precision, in how many processes and threads.

A worker's parent makes it before it forks, so nothing here touches CUDA or runs a torch operation. `make_plan` is
a pure function of the settings and the machine; `warmline doctor --plan` prints it.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass, replace

import psutil

from config.settings import EmotionSettings, WorkerSettings, visible_gpus
from warmline.emotion.device import (
    BF16_CPU_FLAGS,
    EngineName,
    Precision,
    count_cores,
    count_gpus,
    cpu_flags,
    memory_limit_bytes,
)

# What a child keeps for itself beside the mapped weights: torch, the decoder's libraries, one window's
# activations. Measured with the large model (docs/performance.md), rounded up.
CHILD_BYTES = 600 * 2**20
HOSTED_CHILD_BYTES = 150 * 2**20  # one whose engine is in a host: no torch

# Children that fetch and decode for one engine host. On a GPU decoding and finding speech is what takes cores:
# one core does it at some 160 x real time (docs/performance.md).
CPU_HOST_CHILDREN = 2  # one call is scored while the next is fetched and decoded
GPU_HOST_MAX_CHILDREN = 32

# What a matrix product's speed depends on, as Linux names it: x86's, then Arm's.
INSTRUCTION_SETS = BF16_CPU_FLAGS | {
    *("avx2", "avx_vnni", "avx512f", "avx512_vnni", "amx_int8"),
    *("asimd", "asimddp", "sve", "bf16", "i8mm"),
}


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What a plan depends on."""

    cores: int  # that this process may use
    memory_bytes: int  # of the machine or of its container, whichever is less
    gpus: int
    cpu_flags: frozenset[str]  # those of INSTRUCTION_SETS that it has
    has_openvino: bool

    @property
    def cpu_has_bf16(self) -> bool:
        """Whether the CPU multiplies bf16 in hardware."""
        return bool(BF16_CPU_FLAGS & self.cpu_flags)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How one worker uses its machine."""

    engine: EngineName
    device: str  # cpu or cuda
    precision: str  # fp32, bf16, fp16, int8; auto: the GPU is asked when the model is loaded
    hosts: int  # processes that hold the model for all children; 0: each child maps the shared weights itself
    children: int  # processes that take jobs of any lane
    live_children: int = 0  # processes beside those, kept free for the live lane
    threads: int  # of each engine, that is of each host, or of each child where there is no host
    reason: str  # a half-sentence for people

    @property
    def all_children(self) -> int:
        """Processes that take jobs. With all of them at work there are more threads than cores, for a moment."""
        return self.children + self.live_children


def look_at_machine() -> Machine:
    """This machine, as far as this process may use it."""
    return Machine(
        cores=count_cores(),
        memory_bytes=min(psutil.virtual_memory().total, memory_limit_bytes() or 2**62),
        gpus=count_gpus(visible_gpus()),
        cpu_flags=cpu_flags() & INSTRUCTION_SETS,
        has_openvino=importlib.util.find_spec("openvino") is not None,
    )


def make_plan(
    settings: EmotionSettings,
    machine: Machine,
    *,
    children: int = 0,
    hosts: int | None = None,
    live_children: int = 0,
) -> Plan:
    """The plan for a worker; `children` and `hosts` as configured, 0 and None for as many as are right.

    Threads times engines never pass the cores, unless the settings say so: more make all slower. Children that are
    kept free for live jobs are beside the others: they take memory, and cores only while a live job is there.
    """
    plan = replace(_plan(settings, machine, children, live_children), live_children=live_children)
    if hosts is None or hosts == plan.hosts:
        return plan
    if children:
        pass  # as configured
    elif hosts == 0:
        children = plan.hosts  # each takes a host's place
    elif plan.device == "cpu":
        children = CPU_HOST_CHILDREN * hosts
    else:
        children = plan.children
    threads = 1 if plan.device != "cpu" else max(1, machine.cores // (hosts or children))
    return replace(
        plan,
        hosts=hosts,
        children=children,
        threads=settings.threads or threads,
        reason=f"{plan.reason}; the number of hosts was asked for",
    )


def _plan(settings: EmotionSettings, machine: Machine, children: int, live_children: int) -> Plan:
    if settings.device != "cpu" and machine.gpus and settings.engine in {"auto", "torch"}:
        return _plan_gpu(settings, machine, children)
    engine, reason = choose_cpu_engine(settings, machine)
    precision = choose_cpu_precision(settings, machine)
    if engine == "openvino":
        return Plan(
            engine=engine,
            device="cpu",
            precision=precision,
            hosts=1,
            children=children or CPU_HOST_CHILDREN,
            threads=settings.threads or machine.cores,
            reason=f"{reason}; its weights cannot be shared, so one host holds them for all children",
        )
    if engine == "funasr":
        children = children or 1
    else:
        # One thread each: two processes of one thread score more than one process of two.
        fit = max(1, int(machine.memory_bytes * 0.7 // CHILD_BYTES) - live_children)
        children = children or max(1, min(machine.cores // max(1, settings.threads), fit))
    return Plan(
        engine=engine,
        device="cpu",
        precision=precision,
        hosts=0,
        children=children,
        threads=settings.threads or max(1, machine.cores // children),
        reason=reason,
    )


def _plan_gpu(settings: EmotionSettings, machine: Machine, children: int) -> Plan:
    hosts = 1 if ":" in settings.device else machine.gpus
    cores = max(1, machine.cores - hosts)  # each host keeps one core busy with feeding its GPU
    return Plan(
        engine="torch",
        device=settings.device if ":" in settings.device else "cuda",
        precision=settings.precision,
        hosts=hosts,
        children=children or max(2 * hosts, min(cores, GPU_HOST_MAX_CHILDREN * hosts)),
        threads=1,
        reason="there is CUDA; one host a GPU packs the windows of all children",
    )


def plan_worker(emotion: EmotionSettings, worker: WorkerSettings, machine: Machine) -> Plan:
    """The plan for a worker with these settings."""
    return make_plan(
        emotion,
        machine,
        children=worker.children,
        hosts=worker.hosts_asked_for,
        live_children=worker.reserved_children,
    )


def memory_needed(plan: Plan, *, weights_bytes: float) -> float:
    """Bytes that a worker takes with this plan, roughly; `weights_bytes` are the model's in fp32."""
    if plan.hosts:
        # OpenVINO's own copy beside the map of the file that it came from; a GPU's host reads the file only.
        return plan.hosts * (2 * weights_bytes + CHILD_BYTES) + plan.all_children * HOSTED_CHILD_BYTES
    copies = plan.all_children if plan.engine == "funasr" else 1  # torch's children share one
    return copies * weights_bytes + plan.all_children * CHILD_BYTES


def choose_cpu_engine(settings: EmotionSettings, machine: Machine) -> tuple[EngineName, str]:
    """What runs the model on this CPU, and why."""
    if settings.engine != "auto":
        return settings.engine, "asked for"
    if settings.precision == "int8":
        return "openvino", "only it runs int8"
    if settings.precision == "fp16":
        return "torch", "only it runs fp16"
    if settings.precision == "fp32" or not machine.cpu_has_bf16:
        why = "fp32 was asked for" if settings.precision == "fp32" else "no AMX or AVX512-BF16 here"
        return "torch", f"{why}, and its children share one copy of the weights"
    if machine.has_openvino:
        return "openvino", "the CPU multiplies bf16, and OpenVINO does so fastest"
    return "torch", "the CPU multiplies bf16; OpenVINO is not installed"


def choose_cpu_precision(settings: EmotionSettings, machine: Machine) -> Precision:
    """The arithmetic on this CPU: as asked for, else what the hardware multiplies fastest without calibration."""
    if settings.precision != "auto":
        return settings.precision
    return "bf16" if machine.cpu_has_bf16 and settings.engine != "funasr" else "fp32"
