"""`saes`, `presets`, `check`, `train-sae`: finding SAEs, checking that they belong to a model, training them."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.base.paths import EMBEDDED
from corrsteer_core.base.progress import Reporter
from corrsteer_core.cli import arguments, choices, inputs, values
from corrsteer_core.cli.command import Command, no_arguments
from corrsteer_core.cli.printing import say


def _check_arguments(parser: argparse.ArgumentParser) -> None:
    arguments.pairing(parser)
    parser.add_argument(
        "--prompts", type=values.positive, default=24, help="prompts to measure on (default: %(default)s)"
    )
    parser.add_argument(
        "--card",
        nargs="+",
        type=Path,
        metavar="TEXT",
        help="measure on text files (.txt or .jsonl, may end in .gz) what the SAEs are worth: also loss recovered, dead and "
        "dense features, detection; on text that they were not trained on",
    )
    parser.add_argument(
        "--tokens", type=values.positive, default=50_000, help="tokens of text for --card (default: %(default)s)"
    )


def _check(options: argparse.Namespace, report: Reporter) -> list[dict[str, Any]]:
    inputs.quiet_libraries()
    from corrsteer_core.models.loading import load_model
    from corrsteer_core.models.prompts import render, resolve_style
    from corrsteer_core.saes.reconstruction import explained, looks_broken
    from corrsteer_core.saes.sae import load_saes
    from corrsteer_core.tasks import get_task, load_items

    name, sources = inputs.model_and_saes(options)
    model = load_model(name, report=report.note)
    if options.card:
        return _card(options, model, load_saes(sources, model, options.layers), report)
    style = resolve_style(model, chat=None, task_chat=True)
    prompts = [render(model, item.prompt, style) for item in load_items(get_task("overrefusal"), limit=options.prompts)]
    rows = []
    loaded = load_saes(sources, model, options.layers)
    for sae, (own, *neighbours) in zip(loaded, explained(model, loaded, prompts, report), strict=True):
        if problem := looks_broken(own, *neighbours):
            say(f"warning: {sae.source}: {problem}")
        rows.append(_checked_row(sae, own, neighbours))
    return rows


def _card(options: argparse.Namespace, model: Any, loaded: list[Any], report: Reporter) -> list[dict[str, Any]]:
    """What SAEs are worth on text, a row for each."""
    from corrsteer_core.engine.reading_texts import read_texts
    from corrsteer_core.saes import training_texts
    from corrsteer_core.saes.activation_files import collect
    from corrsteer_core.saes.worth import worth

    sequences = training_texts.sequences(options.card, model.tokenizer, options.tokens)
    with tempfile.TemporaryDirectory() as scratch:
        stores = collect(model, sequences, [sae.point for sae in loaded], Path(scratch), report, read_texts)
        return [{"sae": sae.source, **worth(model, sae, sequences, stores[sae.point], report)} for sae in loaded]


def _checked_row(sae: Any, own: Any, neighbours: list[Any]) -> dict[str, Any]:
    """What an SAE explains at its own hook point and one block away, as one row of a table."""
    row = {"sae": sae.source, "hook_point": own.point.name, "positions": own.positions}
    at = {own.point.layer: own, **{one.point.layer: one for one in neighbours}}
    for where, layer in (("own", sae.layer), ("before", sae.layer - 1), ("after", sae.layer + 1)):
        fit = at.get(layer)
        row[f"explained_{where}"] = fit.variance_explained if fit else None
        row[f"l0_{where}"] = fit.l0 if fit else None
    return row


def _saes_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("words", nargs="*", metavar="WORD", help="words that release, model, id or hook contain")


def _saes(options: argparse.Namespace, report: Reporter) -> list[dict[str, Any]]:
    from corrsteer_core.saes import registry

    found = registry.search(options.words)
    if not found:
        raise CorrSteerError(
            f"SAELens' registry has no SAE with {' and '.join(map(repr, options.words))}; try fewer or shorter words."
        )
    if not any(word in registry.releases() for word in options.words):
        return registry.by_release(found)
    return [
        {
            "source": one.source,
            "layer": one.layer,
            "hook": one.hook,
            "l0": one.l0,
            "neuronpedia": one.neuronpedia,
            "refused": one.refused,
        }
        for one in found
    ]


def _presets(options: argparse.Namespace, report: Reporter) -> list[dict[str, Any]]:
    from corrsteer_core.saes.presets import PRESETS

    return [
        {"preset": one.name, "model": one.model, "release": one.release, "layers": len(one.ids), "first": one.ids[0]}
        for one in PRESETS.values()
    ]


def _train_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("text", nargs="+", type=Path, help="text files: .txt or .jsonl, may end in .gz")
    parser.add_argument("--out", type=Path, required=True, help="folder for the SAEs and their card")
    parser.add_argument("--model", default=EMBEDDED, help="hub id or folder (default: %(default)s)")
    parser.add_argument(
        "--layers", type=values.layers, required=True, help="blocks whose output is learned, as 8,15,22"
    )
    parser.add_argument(
        "--tokens", type=values.positive, default=1_350_000, help="tokens of text to learn from (default: %(default)s)"
    )
    parser.add_argument("--d-sae", type=values.positive, default=2304, help="features per SAE (default: %(default)s)")
    parser.add_argument("--k", type=values.positive, default=32, help="features active at once (default: %(default)s)")
    parser.add_argument(
        "--architecture",
        choices=choices.architectures(),
        default="topk",
        help="topk: k features at every position; batchtopk: k on average; matryoshka: batchtopk with nested dictionaries "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--activations",
        type=Path,
        metavar="FOLDER",
        help="where the collected activations lie and stay, for another training on the same text "
        "(default: in --out, until all layers are done)",
    )
    parser.add_argument("--epochs", type=values.positive, default=2)
    parser.add_argument("--seed", type=values.seed, default=0)


def _train(options: argparse.Namespace, report: Reporter) -> list[dict[str, Any]]:
    inputs.quiet_libraries()
    from corrsteer_core.engine.reading_texts import read_texts
    from corrsteer_core.models.loading import load_model
    from corrsteer_core.saes.train_config import TrainConfig
    from corrsteer_core.saes.training import train_saes

    config = TrainConfig(
        layers=options.layers,
        tokens=options.tokens,
        d_sae=options.d_sae,
        k=options.k,
        architecture=options.architecture,
        epochs=options.epochs,
        seed=options.seed,
    )
    model = load_model(options.model, report=report.note)
    return train_saes(model, options.text, options.out, config, report, options.activations, read_texts)


CHECK = Command(
    "check",
    "measure whether SAEs belong to a model: variance explained and L0, there and one block away",
    _check_arguments,
    _check,
)
SAES = Command(
    "saes",
    "list and search the SAEs that SAELens knows, and say which are refused and why; a release's name lists its own",
    _saes_arguments,
    _saes,
)
PRESETS = Command(
    "presets", "list the models that come with SAEs by one name, for fit --preset", no_arguments, _presets
)
TRAIN = Command("train-sae", "train SAEs on a model's residual stream, in SAELens' format", _train_arguments, _train)
