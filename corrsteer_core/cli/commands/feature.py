"""`feature`, `describe`: what single features are about."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.base.formatting import signed
from corrsteer_core.base.progress import Reporter
from corrsteer_core.cli import arguments, inputs, values
from corrsteer_core.cli.command import Command
from corrsteer_core.cli.printing import say, scalars

BEFORE, AFTER = 12, 8
"""Tokens shown around the most active token of a text."""


def _describe_arguments(parser: argparse.ArgumentParser) -> None:
    arguments.run(parser)
    parser.add_argument("--file", type=Path, help="Neuronpedia's explanation export (JSON or JSON lines, also .gz)")
    parser.add_argument(
        "--top",
        type=values.positive,
        default=60,
        help="without a file: how many features to describe (default: %(default)s)",
    )
    parser.add_argument(
        "--judge",
        metavar="URL",
        help="have a language model describe them: an endpoint like OpenAI's (https://HOST/v1, or http://localhost:PORT/v1), with the "
        "key in CORRSTEER_JUDGE_KEY; it is sent the features' tokens and texts, in one call each",
    )
    parser.add_argument("--judge-model", metavar="NAME", help="name of that model")


def _describe(options: argparse.Namespace, report: Reporter) -> dict[str, Any]:
    from corrsteer_core.inspection import descriptions

    if (options.judge is None) != (options.judge_model is None) or (options.judge and options.file):
        raise CorrSteerError(
            "A judge is named by --judge URL and --judge-model NAME together, and without --file; give both."
        )
    if options.judge:
        return _judged(options, report)
    if options.file:
        return asdict(descriptions.import_file(options.run, options.file))
    inputs.quiet_libraries()
    from corrsteer_core.inspection import feature_profile

    return {"described": feature_profile.describe(options.run, top=options.top, progress=report)}


def _judged(options: argparse.Namespace, report: Reporter) -> dict[str, Any]:
    """Ask a judge about the foremost features; our own guess of each is worked out first, where it is not there yet."""
    from corrsteer_core.inspection.chat_endpoint import endpoint_of

    endpoint = endpoint_of(
        options.judge, options.judge_model
    )  # what is wrong with it is said before anything is loaded
    inputs.quiet_libraries()
    from corrsteer_core.inspection import descriptions, feature_profile, judged
    from corrsteer_core.runs import feature_facts

    wanted = feature_profile.foremost(options.run, options.top)
    known = (
        feature_facts.descriptions(options.run, int(row.layer), int(row.feature))["source"].tolist()
        for row in wanted.itertuples()
    )
    if not all(descriptions.OWN in sources for sources in known):
        feature_profile.describe(options.run, top=options.top, progress=report)
    return asdict(judged.judge(options.run, wanted, endpoint, told=say, progress=report))


def _feature_arguments(parser: argparse.ArgumentParser) -> None:
    arguments.run(parser)
    parser.add_argument("layer", metavar="LAYER", type=int)
    parser.add_argument("feature", metavar="FEATURE", type=int)


def _feature(options: argparse.Namespace, report: Reporter) -> dict[str, Any]:
    inputs.quiet_libraries()
    from corrsteer_core.inspection import descriptions, feature_profile
    from corrsteer_core.models.loading import load_model
    from corrsteer_core.runs import feature_facts, feature_lists, stored_run
    from corrsteer_core.saes import named_saes

    run, layer, feature = options.run, options.layer, options.feature
    config, _ = stored_run.stored(run)
    numbers = feature_facts.one_feature(run, layer, feature)
    model = load_model(config.model, like=config.dtype, report=report.note)
    profile = feature_profile.profile_of(run, layer, feature, model, named_saes.saes_of(config.saes, model))
    source = next(sae.source for sae in config.saes if sae.layer == layer)
    stored = feature_facts.descriptions(run, layer, feature)[["source", "description"]]
    imported = stored.assign(source=stored["source"].map(descriptions.said_by)).to_dict("records")
    effects = feature_lists.effects(run, layer, feature).drop(columns=["layer", "feature", "r"])
    result = {
        "layer": layer,
        "feature": feature,
        "neuronpedia": descriptions.neuronpedia_link(descriptions.neuronpedia_id(source), feature),
        "numbers": numbers,
        "descriptions": [*imported, {"source": descriptions.GUESS.lower(), "description": profile.guess}],
        "effects": effects.to_dict("records"),
        **feature_profile.as_json(profile),
    }
    del result["guess"]
    return result if options.json else _readable(result)


def _readable(result: dict[str, Any]) -> dict[str, Any]:
    """A feature for reading: no more than fits on a screen, and texts as text."""
    for name in ("promoted", "suppressed"):
        result[name] = ", ".join(f"{one['text']!r} {signed(one['score'])}" for one in result[name])
    for name in ("nearest_within", "nearest_elsewhere"):
        result[name] = ", ".join(
            f"layer {one['layer']} · {one['feature']} ({one['cosine']:.2f})" for one in result[name]
        )
    result["numbers"] = scalars(result["numbers"] or {"fired in": "no training sample"})
    result["numbers"].pop("description", None)
    result["numbers"].pop("description_source", None)
    result["texts"] = [
        {"part": one["part"], "pooled": one["pooled"], "outcome": one["outcome"], "text": _marked(one["tokens"])}
        for one in result["texts"]
    ]  # fmt: skip
    return result


def _marked(tokens: Sequence[dict[str, Any]]) -> str:
    """The stretch around a text's most active token, with tokens of at least half its activation in brackets."""
    highest = max(one["activation"] for one in tokens)
    at = next(place for place, one in enumerate(tokens) if one["activation"] == highest)
    some = tokens[max(0, at - BEFORE) : at + AFTER]
    bracketed = (f"[{one['text']}]" if one["activation"] >= highest / 2 > 0 else one["text"] for one in some)
    return repr("".join(bracketed))[1:-1]


DESCRIBE = Command(
    "describe",
    "describe features: from a Neuronpedia file, by a guess of our own from tokens and texts, or by a language model",
    _describe_arguments,
    _describe,
)
FEATURE = Command(
    "feature",
    "show all about one feature: numbers, descriptions, tokens, texts, neighbours, effects",
    _feature_arguments,
    _feature,
)
