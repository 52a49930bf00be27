"""Arguments that several commands take, each in a function that adds it to a parser."""

from __future__ import annotations

import argparse
from pathlib import Path

from corrsteer_core.base.paths import EMBEDDED
from corrsteer_core.cli import choices, values
from corrsteer_core.runs.poolings import DEFAULT_POOLING
from corrsteer_core.tasks.columns import FIELDS

DEFAULT_LONGEST = 0.05
# Named again where the strategies are, which loads SciPy; a test holds the two equal.


def common() -> argparse.ArgumentParser:
    """What every command takes, as the parent of its parser."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument("--quiet", action="store_true", help="print no progress")
    parser.add_argument("--device", help="where a model runs: auto (all GPUs together), cpu, cuda, cuda:1, mps")
    parser.add_argument(
        "--dtype",
        choices=choices.dtypes(),
        help="type a model computes in (default: bfloat16 where the hardware has it)",
    )
    parser.add_argument(
        "--quantize", choices=choices.quantized(), help="keep a model's weights in so many bits (needs bitsandbytes)"
    )
    parser.add_argument(
        "--workers",
        type=values.positive,
        metavar="N",
        help="share the work among N processes, through Ray: one per GPU, or per N-th of the cores",
    )
    parser.add_argument("--ray", metavar="ADDRESS", help="share the work in the Ray cluster at this address (or: auto)")
    parser.add_argument("--progress-file", type=Path, help="also write progress to this file, as JSON")
    return parser


def run(parser: argparse.ArgumentParser) -> None:
    """The name of a cached run."""
    parser.add_argument("run", metavar="RUN", help="name of a cached run (see 'runs')")


def steering_set(parser: argparse.ArgumentParser, *, several: bool = False) -> None:
    """A file with a steering set, or several of them."""
    if several:
        parser.add_argument("--set", type=Path, required=True, action="append", help="steering set (JSON); repeat")
    else:
        parser.add_argument("--set", type=Path, required=True, help="steering set (JSON)")


def split(parser: argparse.ArgumentParser) -> None:
    """Which part of the items is measured on."""
    parser.add_argument(
        "--split", choices=choices.splits(), default="test", help="which samples to measure on (default: %(default)s)"
    )


def scale(parser: argparse.ArgumentParser) -> None:
    """Of a whole set."""
    parser.add_argument("--scale", type=float, help="instead of the set's own global scale")


def rows(parser: argparse.ArgumentParser, *, required: bool = False) -> None:
    """Rows that a set is to have, in place of those of their features or beside them."""
    parser.add_argument("--row", type=values.row, action="append", default=[], required=required, help=values.ROW_WORDS)


def force(parser: argparse.ArgumentParser, help: str) -> None:
    """Whether files may be replaced."""
    parser.add_argument("--force", action="store_true", help=help)


def measured_on(parser: argparse.ArgumentParser) -> None:
    """The tasks, items and part of them that sets are measured on."""
    parser.add_argument("--task", action="append", help="task to measure on; repeat (default: the sets' own)")
    split(parser)
    parser.add_argument("--limit", type=values.positive, help="most samples of each task")


def own_task(parser: argparse.ArgumentParser) -> None:
    """A task of the user's own: its file and its scorer."""
    parser.add_argument(
        "--scorer",
        default="",
        help=f"for a task of your own (--data): how an answer is scored: {choices.listed(choices.scorers())}",
    )
    parser.add_argument("--data", type=Path, help="file with prompt (and target) instead of the task's own samples")
    parser.add_argument(
        "--columns",
        type=values.columns,
        default=(),
        metavar="FIELD=COLUMN,...",
        help=f"what the file of --data calls {', '.join(FIELDS)}, as prompt=question,target=answer; also as JSON",
    )


def candidates(parser: argparse.ArgumentParser, per_layer: str) -> None:
    """What V tries."""
    parser.add_argument("--per-layer", type=values.positive, help=per_layer)
    parser.add_argument("--scales", type=values.scales_above_0, help="scales that V tries (default: 1,2,4,8)")


def longest(parser: argparse.ArgumentParser) -> None:
    """The bound on the length of vectors that are tried."""
    parser.add_argument(
        "--longest",
        type=values.share,
        default=DEFAULT_LONGEST,
        help="longest vector to try, as a share of the activation it is added to (default: %(default)s)",
    )


def ranking(parser: argparse.ArgumentParser) -> None:
    """What features are ordered by."""
    known = choices.rankings()
    parser.add_argument(
        "--ranking",
        choices=known,
        default=known[0],
        help="rank by this (default: %(default)s, the method's own; the others are to compare with)",
    )


def run_settings(parser: argparse.ArgumentParser) -> None:
    """What makes a run: task, model, SAEs and settings."""
    parser.add_argument("--task", help=f"name of a task: {choices.listed(choices.tasks())}")
    own_task(parser)
    parser.add_argument(
        "--judge",
        default="",
        help=f"score by a small model of the hub instead of by rules: {choices.listed(choices.judges())}",
    )
    pairing(parser)
    parser.add_argument("--limit", type=values.positive, help="most samples, over all splits")
    parser.add_argument("--max-new-tokens", type=values.positive, help="tokens to generate (default: the task's)")
    parser.add_argument("--batch-size", type=values.positive, help="prompts at a time (default: what fits in memory)")
    parser.add_argument(
        "--seed", type=values.seed, default=0, help="seed of the split of tasks that have none of their own"
    )
    pooling(parser)
    prompt_style(parser)


def pooling(parser: argparse.ArgumentParser) -> None:
    """How a feature's activations in a sample become one number."""
    parser.add_argument(
        "--pooling",
        choices=choices.poolings(),
        default=DEFAULT_POOLING,
        help=f"what a feature's activations in a sample are reduced to: {choices.pooling_words()} (default: %(default)s)",
    )


def prompt_style(parser: argparse.ArgumentParser) -> None:
    """What stands around a task's prompts."""
    parser.add_argument(
        "--chat",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="use the chat template (default: the task's)",
    )
    parser.add_argument("--system", type=values.text, default="", help="system prompt")
    parser.add_argument(
        "--shots",
        type=values.count,
        default=0,
        metavar="N",
        help="show N training samples with their answers before every prompt",
    )


def pairing(parser: argparse.ArgumentParser) -> None:
    """Which model, and which SAEs of it."""
    parser.add_argument("--preset", metavar="NAME", help="a model and its SAEs by one name (see 'presets')")
    parser.add_argument("--model", help=f"hub id or folder (default: the preset's, or {EMBEDDED}, embedded)")
    parser.add_argument(
        "--sae", action="append", metavar="SOURCE", help="folder or release/id; may be repeated (default: embedded)"
    )
    parser.add_argument("--layers", type=values.layers, help="only these layers, as 8,15,22")


def fitting(parser: argparse.ArgumentParser) -> None:
    """How a run is fitted."""
    parser.add_argument("--floor", type=values.positive, help="least training samples in which a ranked feature fired")
    parser.add_argument(
        "--permutations", type=values.positive, default=200, help="shuffled outcomes, to see what chance reaches"
    )
    parser.add_argument("--top", type=values.positive, default=10, help="features to print (default: %(default)s)")
