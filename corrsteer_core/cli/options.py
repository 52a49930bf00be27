"""The command line's commands and options, as argparse has them."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from pathlib import Path

from corrsteer_core.cli import commands

STRATEGIES = ("S", "A", "P", "V")
RANKINGS = ("pearson_r", "difference_of_means", "fisher_ratio", "mutual_information")
DTYPES = ("float32", "bfloat16")
DEFAULT_LONGEST = 0.05
LARGEST_SEED = 2**63 - 1
# All are named again where they are used; a test holds them equal. Importing them from there would load torch.


def parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--json", action="store_true", help="print the result as JSON")
    common.add_argument("--quiet", action="store_true", help="print no progress")
    common.add_argument("--device", help="where a model runs: auto (all GPUs together), cpu, cuda, cuda:1, mps")
    common.add_argument(
        "--dtype", choices=DTYPES, help="type a model computes in (default: bfloat16 where the hardware has it)"
    )
    common.add_argument("--progress-file", type=Path, help="also write progress to this file, as JSON")
    parser = argparse.ArgumentParser(
        prog="python -m corrsteer_core",
        description="Find the SAE features that go with success on a task, and steer a language model with them.",
    )
    added = parser.add_subparsers(required=True, metavar="COMMAND", dest="name")

    def command(name: str, function, text: str) -> argparse.ArgumentParser:
        made = added.add_parser(name, help=text, description=text, parents=[common])
        made.set_defaults(command=function)
        return made

    fit = command("fit", commands.fit, "run a model on a task, read its features while it answers, and rank them")
    _run_options(fit)
    _fit_options(fit)

    study = command(
        "study", commands.study, "the whole method on one task: fit, every strategy, controls and a baseline"
    )
    _run_options(study)
    study.add_argument(
        "--strategies", type=_some_of(STRATEGIES), default="S,A,P,V", help="sets to choose (default: %(default)s)"
    )
    study.add_argument(
        "--rankings",
        type=_some_of(RANKINGS),
        default=(),
        help="also set A by these other rankings, as fisher_ratio,...",
    )
    study.add_argument(
        "--controls", type=_count, default=5, metavar="N", help="random sets each (default: %(default)s)"
    )
    study.add_argument("--per-layer", type=_positive, help="features that V tries in each layer (default: 8)")
    study.add_argument("--scales", type=_scales_above_0, help="scales that V tries (default: 1,2,4,8)")
    study.add_argument(
        "--baseline", action=argparse.BooleanOptionalAction, default=True, help="also steer without SAE, to compare"
    )
    _longest_option(study)

    refit = command("refit", commands.refit, "fit a collected run anew, from the cache alone")
    refit.add_argument("run", metavar="RUN")
    _fit_options(refit)

    command("runs", commands.runs, "list the cached runs")

    features = command("features", commands.features, "list a run's features, highest correlation first")
    features.add_argument("run", metavar="RUN")
    features.add_argument("--layer", type=int, help="only this layer")
    features.add_argument("--top", type=_positive, default=20, help="how many (default: %(default)s)")
    features.add_argument(
        "--intervals", action="store_true", help="add 95%% bootstrap intervals of r and coefficient for these"
    )
    _ranking_option(features)

    convergence = command(
        "convergence",
        commands.convergence,
        "show which share of the top features fewer training samples would have found",
    )
    convergence.add_argument("run", metavar="RUN")
    convergence.add_argument("--top", type=_positive, default=10, help="how many features (default: %(default)s)")

    describe = command(
        "describe",
        commands.describe,
        "describe features: from a Neuronpedia file, or by a guess of our own from tokens and texts",
    )
    describe.add_argument("run", metavar="RUN")
    describe.add_argument("--file", type=Path, help="Neuronpedia's explanation export (JSON or JSON lines, also .gz)")
    describe.add_argument(
        "--top", type=_positive, default=60, help="without a file: how many features to describe (default: %(default)s)"
    )

    feature = command(
        "feature",
        commands.feature,
        "show all about one feature: numbers, descriptions, tokens, texts, neighbours, effects",
    )
    feature.add_argument("run", metavar="RUN")
    feature.add_argument("layer", metavar="LAYER", type=int)
    feature.add_argument("feature", metavar="FEATURE", type=int)

    select = command("select", commands.select, "choose a steering set: S, A (by correlation), P or V (by effect)")
    select.add_argument("run", metavar="RUN")
    select.add_argument("--strategy", required=True, choices=STRATEGIES)
    select.add_argument("--out", type=Path, help="write the set to this file")
    select.add_argument("--per-layer", type=_positive, help="features per layer: A and P take 1, V tries 8")
    select.add_argument("--scales", type=_scales_above_0, help="scales that V tries (default: 1,2,4,8)")
    _longest_option(select)
    select.add_argument(
        "--negative", action="store_true", help="features of negative r too, subtracted (the paper found that harmful)"
    )
    _ranking_option(select)

    effects = command(
        "effects", commands.effects, "list what steering with single features did on the validation split"
    )
    effects.add_argument("run", metavar="RUN")

    generate = command("generate", commands.generate, "answer a prompt unsteered and steered")
    generate.add_argument("--set", type=Path, required=True, help="steering set (JSON)")
    generate.add_argument("--prompt", type=_text, required=True)
    generate.add_argument("--scale", type=float, help="in place of the set's own global scale")
    generate.add_argument("--max-new-tokens", type=_positive, default=60)
    generate.add_argument("--temperature", type=_temperature, default=0.0, help="0 takes the most probable token")
    generate.add_argument("--seed", type=_seed, default=0)

    export = command("export", commands.export, "write a set for other programs: transformers, llama.cpp, your own")
    export.add_argument("--set", type=Path, required=True, help="steering set (JSON)")
    export.add_argument("--format", choices=("json", "safetensors", "gguf", "python"), required=True)
    export.add_argument("--out", type=Path, required=True, help="the file; python also writes a .safetensors beside it")
    export.add_argument("--force", action="store_true", help="replace files that are there already")

    evaluate = command("evaluate", commands.evaluate, "measure a set against the unsteered model on the same samples")
    evaluate.add_argument("--set", type=Path, required=True, help="steering set (JSON)")
    evaluate.add_argument("--task", help="name of a task (default: the set's own)")
    evaluate.add_argument("--scorer", default="", help="for a task of your own (--data): how an answer is scored")
    evaluate.add_argument("--data", type=Path, help="file with prompt (and target) in place of the task's own items")
    evaluate.add_argument("--split", choices=("train", "validation", "test"), default="test")
    evaluate.add_argument("--scale", type=float, help="in place of the set's own global scale")
    evaluate.add_argument("--limit", type=_positive, help="at most so many samples")
    evaluate.add_argument("--max-new-tokens", type=_positive)
    evaluate.add_argument(
        "--controls", type=_count, default=0, metavar="N", help="also measure N random sets of like size"
    )

    sweep = command("sweep", commands.sweep, "measure a set at several scales, on its own task and on others")
    sweep.add_argument("--set", type=Path, required=True, help="steering set (JSON)")
    sweep.add_argument("--scales", type=_scales, default=(0.5, 1.0, 1.5, 2.0), help="as 0.5,1,2 (default: 0.5,1,1.5,2)")
    _measured_on(sweep)

    transfer = command("transfer", commands.transfer, "measure several sets on several tasks, as a matrix")
    transfer.add_argument("--set", type=Path, required=True, action="append", help="steering set (JSON); repeat")
    _measured_on(transfer)

    baseline = command(
        "baseline",
        commands.baseline,
        "compare with steering without SAE: the difference of activations of right and wrong answers",
    )
    baseline.add_argument("run", metavar="RUN")
    baseline.add_argument("--split", choices=("train", "validation", "test"), default="test")
    _longest_option(baseline)

    page = command("report", commands.report, "write a run as one HTML file, for people who will not open the app")
    page.add_argument("run", metavar="RUN")
    page.add_argument("--out", type=Path, required=True, help="the file (.html)")
    page.add_argument("--force", action="store_true", help="replace a file that is there already")

    check = command(
        "check",
        commands.check,
        "measure whether SAEs belong to a model: variance explained and L0, there and one block away",
    )
    _pairing_options(check)
    check.add_argument("--prompts", type=_positive, default=24, help="prompts to measure on (default: %(default)s)")

    saes = command("saes", commands.saes, "list and search the SAEs that SAELens knows; a release's name lists its own")
    saes.add_argument("words", nargs="*", metavar="WORD", help="words that release, model, id or hook contain")

    command("presets", commands.presets, "list the models that come with SAEs by one name, for fit --preset")

    command("demo", commands.demo, "do the main job on the embedded model: fit, select and evaluate the sentiment task")

    train = command("train-sae", commands.train_sae, "train SAEs on a model's residual stream, in SAELens' format")
    train.add_argument("text", nargs="+", type=Path, help="text files: .txt or .jsonl, may end in .gz")
    train.add_argument("--out", type=Path, required=True, help="folder for the SAEs and their card")
    train.add_argument("--model", default="SmolLM2-135M-Instruct")
    train.add_argument("--layers", type=_numbers, required=True, help="blocks whose output is learned, as 8,15,22")
    train.add_argument(
        "--tokens", type=_positive, default=1_350_000, help="tokens of text to learn from (default: %(default)s)"
    )
    train.add_argument("--d-sae", type=_positive, default=2304, help="features per SAE (default: %(default)s)")
    train.add_argument("--k", type=_positive, default=32, help="features active at once (default: %(default)s)")
    train.add_argument("--epochs", type=_positive, default=2)
    train.add_argument("--seed", type=_seed, default=0)
    return parser


def _measured_on(command: argparse.ArgumentParser) -> None:
    command.add_argument("--task", action="append", help="task to measure on; repeat (default: the sets' own)")
    command.add_argument("--split", choices=("train", "validation", "test"), default="test")
    command.add_argument("--limit", type=_positive, help="at most so many samples of each task")


def _longest_option(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--longest",
        type=_share,
        default=DEFAULT_LONGEST,
        help="longest vector to try, as a share of the activation it is added to (default: %(default)s)",
    )


def _ranking_option(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--ranking",
        choices=RANKINGS,
        default=RANKINGS[0],
        help="rank by this (default: %(default)s, the method's own; the others are to compare with)",
    )


def _run_options(parser: argparse.ArgumentParser) -> None:
    """What makes a run: task, model, SAEs and settings."""
    parser.add_argument("--task", help="name of a task: sentiment, refusal, overrefusal, capitals, ...")
    parser.add_argument("--scorer", default="", help="for a task of your own (--data): how an answer is scored")
    parser.add_argument("--data", type=Path, help="file with prompt (and target) in place of the task's own items")
    parser.add_argument(
        "--judge",
        default="",
        help="score by a small model of the hub instead of by rules: rejection-judge, similarity-judge",
    )
    _pairing_options(parser)
    parser.add_argument("--limit", type=_positive, help="at most so many samples, over all splits")
    parser.add_argument("--max-new-tokens", type=_positive, help="tokens to generate (default: the task's)")
    parser.add_argument("--batch-size", type=_positive, help="prompts at a time (default: what fits in memory)")
    parser.add_argument("--seed", type=_seed, default=0, help="seed of the split of tasks that have none of their own")
    parser.add_argument(
        "--pooling",
        choices=("max", "mean", "all"),
        default="max",
        help="how activations are pooled: their maximum (default) or mean over the answer, or their maximum over prompt and "
        "answer, where the first token's, outliers in many models, count too",
    )
    parser.add_argument(
        "--chat",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="use the chat template (default: the task's)",
    )
    parser.add_argument("--system", type=_text, default="", help="system prompt")
    parser.add_argument(
        "--shots", type=_count, default=0, metavar="N", help="show N train items with their answers before every prompt"
    )


def _pairing_options(parser: argparse.ArgumentParser) -> None:
    """Which model, and which SAEs of it."""
    parser.add_argument("--preset", metavar="NAME", help="a model and its SAEs by one name (see 'presets')")
    parser.add_argument("--model", help="hub id or folder (default: the preset's, or SmolLM2-135M-Instruct, embedded)")
    parser.add_argument(
        "--sae", action="append", metavar="SOURCE", help="folder or release/id; may be repeated (default: embedded)"
    )
    parser.add_argument("--layers", type=_numbers, help="only these layers, as 8,15,22")


def _fit_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--floor", type=_positive, help="least training samples in which a ranked feature fired")
    parser.add_argument(
        "--permutations", type=_positive, default=200, help="shuffled outcomes, to see what chance reaches"
    )
    parser.add_argument("--top", type=_positive, default=10, help="features to print (default: %(default)s)")


def _text(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise argparse.ArgumentTypeError(f"{text!r} is not UTF-8 text") from None
    return text


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of layers like 8,15,22") from None


def _scales(text: str) -> tuple[float, ...]:
    try:
        scales = tuple(float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of scales like 0.5,1,2") from None
    if not all(map(math.isfinite, scales)):
        raise argparse.ArgumentTypeError(f"{text!r} holds a scale that is not a finite number")
    return scales


def _scales_above_0(text: str) -> tuple[float, ...]:
    """Scales of candidates: the coefficient says the direction, and at 0 nothing is tried."""
    scales = _scales(text)
    if min(scales) <= 0:
        raise argparse.ArgumentTypeError(f"{text!r} holds a scale that is not above 0")
    return scales


def _some_of(known: Sequence[str]) -> Callable[[str], tuple[str, ...]]:
    """Reads names with commas between them, each once."""

    def read(text: str) -> tuple[str, ...]:
        names = tuple(dict.fromkeys(name for name in text.split(",") if name))
        if unknown := [name for name in names if name not in known]:
            raise argparse.ArgumentTypeError(f"{unknown[0]!r} is none of {', '.join(known)}")
        return names

    return read


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = math.nan
    if not 0 < share < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a share above 0, like 0.05")
    return share


def _temperature(text: str) -> float:
    try:
        temperature = float(text)
    except ValueError:
        temperature = math.nan
    if not 0 <= temperature < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a temperature of 0 or above, like 0.7")
    return temperature


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number, 0 or above")
    return int(text)


def _seed(text: str) -> int:
    """What NumPy and PyTorch take alike."""
    if not text.isdecimal() or int(text) > LARGEST_SEED:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 to {LARGEST_SEED}")
    return int(text)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)
