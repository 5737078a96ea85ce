"""Where this process runs its model: decided by the process that loads it, which may touch CUDA."""

from __future__ import annotations

from dataclasses import dataclass

import structlog
import torch

from config.settings import EmotionSettings
from warmline.emotion.device import EngineName, Precision
from warmline.emotion.plan import choose_cpu_engine, choose_cpu_precision, look_at_machine
from warmline.jobs.errors import DeviceUnavailable, ModelUnusable

log = structlog.get_logger()


@dataclass(frozen=True, kw_only=True)
class Placement:
    """What runs a model, where, in which arithmetic, with how many threads."""

    engine: EngineName
    device: str  # cpu, cuda:0
    precision: Precision
    threads: int


def choose_placement(settings: EmotionSettings, *, threads: int, child_index: int = 0) -> Placement:
    """Decides and says in one line of the log why.

    On a machine with several GPUs process i takes GPU i, unless the settings name one. Raises DeviceUnavailable
    where CUDA is asked for and absent, ModelUnusable where the engine cannot run in the precision asked for.
    """
    device = _choose_device(settings, child_index)
    if device == "cpu":
        machine = look_at_machine()
        engine, reason = choose_cpu_engine(settings, machine)
        precision = choose_cpu_precision(settings, machine)
        if precision == "bf16" and not machine.cpu_has_bf16:
            reason += "; this CPU is slower with bf16 than with fp32"
    else:
        engine = "funasr" if settings.engine == "funasr" else "torch"
        precision, reason = _choose_gpu_precision(settings, device)
    _refuse_what_cannot_run(engine, precision)
    log.info("engine_chosen", engine=engine, device=device, precision=precision, threads=threads, reason=reason)
    return Placement(engine=engine, device=device, precision=precision, threads=threads)


def _choose_device(settings: EmotionSettings, child_index: int) -> str:
    wanted = settings.device
    if wanted == "cpu" or (wanted == "auto" and settings.engine == "openvino"):
        return "cpu"
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if gpus == 0:
        if wanted == "auto":
            return "cpu"
        build = "" if torch.version.cuda else f" (torch {torch.__version__} is built without it)"
        raise DeviceUnavailable(
            f"WARMLINE_DEVICE is {wanted}, but there is no CUDA device{build}. Set it to cpu or auto."
        )
    if settings.engine == "openvino":
        raise DeviceUnavailable("The openvino engine runs on the CPU. Set WARMLINE_DEVICE to cpu or auto.")
    index = int(wanted.removeprefix("cuda:")) if ":" in wanted else child_index % gpus
    if index >= gpus:
        raise DeviceUnavailable(f"WARMLINE_DEVICE is {wanted}, but the last CUDA device is cuda:{gpus - 1}.")
    return f"cuda:{index}"


def _choose_gpu_precision(settings: EmotionSettings, device: str) -> tuple[Precision, str]:
    if settings.engine == "funasr" and settings.precision == "auto":
        return "fp32", "funasr was asked for"
    if settings.precision != "auto":
        return settings.precision, "CUDA, and the precision was asked for"
    major, _ = torch.cuda.get_device_capability(device)
    if major >= 8:  # Ampere and later
        return "bf16", "CUDA, and the GPU multiplies bf16"
    if major == 7:  # Volta and Turing: a V100, a T4
        return "fp16", "CUDA, and the GPU multiplies fp16, but not bf16"
    return "fp32", "CUDA, and this GPU multiplies no 16-bit numbers fast"


def _refuse_what_cannot_run(engine: EngineName, precision: Precision) -> None:
    if engine == "funasr" and precision != "fp32":
        raise ModelUnusable("The funasr engine runs in fp32 only. Set WARMLINE_PRECISION to auto or fp32.")
    if engine == "torch" and precision == "int8":
        raise ModelUnusable("The torch engine has no int8. Set WARMLINE_ENGINE to openvino, or another precision.")
    if engine == "openvino" and precision == "fp16":
        raise ModelUnusable("The openvino engine has no fp16. Set WARMLINE_PRECISION to auto, bf16 or fp32.")
