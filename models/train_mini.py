"""Trains the mini model from a directory of labelled clips, and says how good it is on voices it never heard.

    python models/train_mini.py --data DIR --folds --jobs 2

DIR holds labels.csv (file, speaker, label, seconds) and the clips it names: mono, 16 kHz, anything soundfile
reads. With --folds the whole training is first done once for each pair of speakers without these two, and
tested on them; the figures go to figures.json, which the model card quotes. The shipped model is then trained
on everybody by the same recipe.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm
from training.augment import CLEAN, TELEPHONE, make_pool
from training.classifier import Recipe, joined, logits, train_classifier
from training.data import Corpus, read_corpus
from training.evaluate import best_temperature, calibration_error, confusion, recalls, unweighted_average_recall
from training.export import write_directory
from training.frontend import hear, pretrain

from warmline.emotion.architecture import Architecture, ConvLayer, Emotion2Vec
from warmline.emotion.labels import STANDARD_LABELS

ARCHITECTURE = Architecture(
    embed_dim=96,
    prenet_depth=1,
    depth=1,
    num_heads=4,
    labels=len(STANDARD_LABELS),
    # 32 ms filters every 10 ms, then two layers down to one frame every 40 ms.
    conv_layers=(ConvLayer(256, 512, 160), ConvLayer(160, 3, 2), ConvLayer(160, 3, 2)),
    mlp_ratio=2.0,
    conv_pos_width=14,
    conv_pos_groups=8,
    conv_pos_depth=2,
    extra_tokens=2,
    alibi_heads=4,
)
RECIPE = Recipe()
FIGURES = "figures.json"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One training: on whom, and who is left out to test it."""

    left_out: tuple[str, ...]  # none for the shipped model
    train: Tensor  # indices of clips
    test: Tensor
    seed: int
    versions: int
    steps: int  # of the front end


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a training gave."""

    state: dict[str, Tensor]
    clean: Tensor  # (test clips, labels) logits
    telephone: Tensor
    unexplained: float  # share of the acoustic targets' variance
    cpu_seconds: float


def main() -> None:
    """Reads the arguments, trains, writes."""
    arguments = parse_arguments()
    torch.set_num_threads(1)
    corpus = read_corpus(arguments.data)
    print(f"{len(corpus.speakers)} clips, {len(set(corpus.speakers))} speakers, {len(corpus.known)} labels")
    bar = partial(tqdm, desc="versions of the clips")
    pool = make_pool(corpus.waves, arguments.versions, seed=arguments.seed, progress=bar)
    shared = {"seed": arguments.seed, "versions": arguments.versions, "steps": arguments.frontend_steps}
    nobody = torch.tensor([], dtype=torch.long)
    plans = [Plan(left_out=(), train=torch.arange(len(corpus.labels)), test=nobody, **shared)]
    if arguments.folds:
        folds = [Plan(left_out=out, train=train, test=test, **shared) for out, train, test in corpus.folds()]
        plans = [*folds, *plans]
    outcomes = run_all(plans, pool, corpus.labels, arguments.jobs)
    arguments.out.mkdir(parents=True, exist_ok=True)
    path = arguments.out / FIGURES
    if arguments.folds:
        figures = summarise(corpus, plans[:-1], outcomes[:-1])
        path.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    temperature = json.loads(path.read_text(encoding="utf-8"))["temperature"] if path.exists() else 1.0
    model = Emotion2Vec(ARCHITECTURE)
    model.load_state_dict(outcomes[-1].state)
    with torch.no_grad():
        model.head.weight /= temperature
        model.head.bias /= temperature
    write_directory(model, arguments.out)
    print(f"Wrote {arguments.out} with a temperature of {temperature:.2f} in its head.")


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Trains the mini model.")
    parser.add_argument("--data", type=Path, required=True, help="directory with labels.csv and its clips")
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent / "mini", help="model directory to write"
    )
    parser.add_argument("--folds", action="store_true", help="leave-speakers-out validation first")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1, help="trainings at once, one thread each")
    parser.add_argument("--versions", type=int, default=24, help="versions of each clip, the clip itself included")
    parser.add_argument("--frontend-steps", type=int, default=600, help="steps of the convolutions' own training")
    return parser.parse_args()


def run_all(plans: list[Plan], pool: Tensor, labels: Tensor, jobs: int) -> list[Outcome]:
    """Every plan's outcome, in their order."""
    if jobs == 1:
        return [run_one(plan, pool, labels) for plan in plans]
    context = torch.multiprocessing.get_context("spawn")
    with context.Pool(jobs) as workers:
        work = [(plan, pool.share_memory_(), labels) for plan in plans]
        outcomes = workers.starmap(run_one, work, chunksize=1)
        workers.close()
        workers.join()
    return outcomes


def run_one(plan: Plan, pool: Tensor, labels: Tensor) -> Outcome:
    """Trains the front end, then the rest, on the plan's clips; scores those left out, clean and by telephone."""
    torch.set_num_threads(1)
    started = time.process_time()
    name = f"without {'+'.join(plan.left_out)}" if plan.left_out else "everybody"
    torch.manual_seed(plan.seed)
    front = Emotion2Vec(ARCHITECTURE)
    unexplained = pretrain(
        front, pool, plan.train, steps=plan.steps, seed=plan.seed, progress=_bar(f"{name}: front end")
    )
    heard = hear(front.frontend, pool)
    rest = train_classifier(
        ARCHITECTURE, heard, labels, plan.train, RECIPE, seed=plan.seed, progress=_bar(f"{name}: emotions")
    )
    clean, telephone = torch.zeros(2, 0, len(STANDARD_LABELS))
    if plan.left_out:
        with torch.no_grad():
            clean, telephone = (logits(rest, heard[version, plan.test].float()) for version in (CLEAN, TELEPHONE))
    cpu_seconds = time.process_time() - started
    if plan.left_out:
        uar = [unweighted_average_recall(out.argmax(dim=-1), labels[plan.test]) for out in (clean, telephone)]
        print(
            f"{name}: recall {uar[0]:.3f} clean, {uar[1]:.3f} by telephone, {cpu_seconds:.0f} s of one core",
            flush=True,
        )
    return Outcome(
        state=joined(front, rest).state_dict(),
        clean=clean,
        telephone=telephone,
        unexplained=unexplained,
        cpu_seconds=cpu_seconds,
    )


def _bar(description: str) -> Callable[[Iterable[int]], Iterable[int]]:
    return partial(tqdm, desc=description, mininterval=10)


def summarise(corpus: Corpus, plans: list[Plan], outcomes: list[Outcome]) -> dict[str, Any]:
    """The figures of the validation, printed and as they go to figures.json."""
    labels = torch.cat([corpus.labels[plan.test] for plan in plans])
    figures: dict[str, Any] = {
        "clips": len(labels),
        "speakers": len(set(corpus.speakers)),
        "recipe": asdict(RECIPE),
    }
    figures["folds"] = [
        {"left_out": plan.left_out, "clips": len(plan.test), "cpu_seconds": round(outcome.cpu_seconds)}
        for plan, outcome in zip(plans, outcomes, strict=True)
    ]
    every = {}
    for line in ("clean", "telephone"):
        parts = [getattr(outcome, line) for outcome in outcomes]
        every[line] = torch.cat(parts)
        predicted = every[line].argmax(dim=-1)
        each = [
            unweighted_average_recall(part.argmax(dim=-1), corpus.labels[plan.test])
            for plan, part in zip(plans, parts, strict=True)
        ]
        for fold, uar in zip(figures["folds"], each, strict=True):
            fold[line] = round(uar, 3)
        figures[line] = {
            "mean_of_folds": round(sum(each) / len(each), 3),
            "all_clips": round(unweighted_average_recall(predicted, labels), 3),
            "accuracy": round(float((predicted == labels).float().mean()), 3),
            "recalls": {
                STANDARD_LABELS[row]: round(value, 3) for row, value in recalls(predicted, labels).items()
            },
            "confusion": confusion(predicted, labels, corpus.known),
        }
        print_confusion(line, figures[line], corpus.known)
    both = torch.cat([every["clean"], every["telephone"]])
    temperature = best_temperature(both, labels.repeat(2))
    figures["temperature"] = round(temperature, 3)
    figures["calibration_error"] = round(calibration_error(both / temperature, labels.repeat(2)), 3)
    return figures


def print_confusion(line: str, figures: dict[str, Any], known: tuple[int, ...]) -> None:
    """A table: what was said (rows), what was heard (columns)."""
    print(f"\n{line}: recall {figures['mean_of_folds']} (mean of folds), {figures['all_clips']} (all clips)")
    names = [STANDARD_LABELS[row][:7] for row in known]
    print(" " * 10 + "".join(f"{name:>9}" for name in [*names, "others"]))
    for name, counts in zip(names, figures["confusion"], strict=True):
        print(f"{name:<10}" + "".join(f"{count:>9}" for count in counts))


if __name__ == "__main__":
    main()
