"""Everything the report says, from the run's file."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pandas as pd
from markupsafe import Markup

from corrsteer_core.base import presenting
from corrsteer_core.base.formatting import missing, percent
from corrsteer_core.base.paths import EMBEDDED
from corrsteer_core.base.text_diff import differences, marked, parting, shared_ends
from corrsteer_core.correlation.feature_columns import Column, shown_columns
from corrsteer_core.reporting import (
    pictures,
    prior_words,
    ranking_words,
    rate_rows,
    rival_groups,
    tournament_words,
    verdict,
)
from corrsteer_core.reporting.glossary import GLOSSARY, Point
from corrsteer_core.runs import feature_lists, measurements, run_facts
from corrsteer_core.runs.poolings import said_plainly
from corrsteer_core.runs.sets.rows import row_of
from corrsteer_core.runs.strategies import STRATEGIES, preference
from corrsteer_core.tasks import TASKS

EXAMPLES = 6
"""Samples shown of each kind of flip."""
LONGEST_TEXT = 1500
"""Characters shown of a prompt or an answer."""
PACKAGES = ("torch", "transformers", "sae-lens", "duckdb", "numpy", "pandas")
SPLITS = {
    "train": "Training: rank the features",
    "validation": "Validation: choose among them",
    "test": "Test: held back, to measure the choice",
    "shifted": "Shifted: made otherwise, never chosen on",
}


@dataclass(frozen=True)
class Example:
    """One sample answered both ways; the texts are HTML that is safe already."""

    prompt: str
    target: str
    unsteered: Markup
    steered: Markup
    parts: str


@dataclass(frozen=True)
class Measured:
    """One evaluation, ready to be shown."""

    name: str
    """The set's, with a mark if it has been changed since."""
    set: str
    content: str
    own_scale: bool
    task: str
    split: str
    scale: float
    summary: Mapping[str, Any]
    verdict: verdict.Verdict
    word: str

    @property
    def fluency_loss(self) -> float | None:
        return verdict.fluency_loss(self.summary)


def contents(run: str) -> dict[str, Any]:
    """Everything the page says, by the names that the template uses."""
    facts = run_facts.facts(run)
    best, effects = feature_lists.best_by_layer(run), feature_lists.best_effects(run)
    every = [_measured(row) for row in measurements.evaluations(run).itertuples()]
    main = _main(every, facts.config["task"])
    return {
        "run": run,
        "facts": facts,
        "model": presenting.named(facts.config["model"]),
        "task": _task(facts.config),
        "splits": facts.splits.assign(what=facts.splits["split"].map(SPLITS).fillna("")).to_dict("records"),
        "main": main,
        "headline": _headline(facts, main),
        "ranking": _ranking(facts),
        "tried": ranking_words.of_effects(effects),
        "rates": rate_rows.rates(main.summary, _set_name(main.name)) if main else None,
        "prior": prior_words.prior_words(main.summary) if main else None,
        "prior_words": prior_words,
        "tournament_words": tournament_words,
        "rival_groups": rival_groups,
        "best": best,
        "effects": effects,
        "columns": [Point(column.title, column.help) for column in columns_of(best)],
        "top_effects": effects.head(8).to_dict("records"),
        "pictures": {
            "rates": _drawn(pictures.rates(rate_rows.rates(main.summary, _set_name(main.name)))) if main else "",
            "tournament": _tournament(main) if main else "",
            "layers": _drawn(pictures.best_by_layer(best)) if len(best) else "",
            "effects": _drawn(pictures.r_and_effect(effects)) if len(effects) else "",
        },
        "sets": list(_sets(run)),
        "measured": every,
        "examples": _examples(run, main) if main else {},
        "shown": EXAMPLES,
        "limits": list(_limits(facts, every, main)),
        "made": list(_made(run, facts)),
        "glossary": GLOSSARY,
    }


def _tournament(main: Measured) -> Markup | str:
    rows = tournament_words.rates(main.summary, _set_name(main.name))
    return _drawn(pictures.rates(rows)) if len(rows) else ""


def _drawn(svg: str) -> Markup:
    return Markup(svg)  # noqa: S704  (pictures escape what they name)


def columns_of(best: pd.DataFrame) -> list[Column]:
    """Those that have a value for any of some features; r always."""
    return [one for one in shown_columns() if one.name == "r" or best[one.name].notna().any()]


def _measured(row: Any) -> Measured:
    found = verdict.verdict(row.summary)
    where = (row.label, row.name, row.content, row.own_scale, row.task, row.split, row.scale)
    return Measured(*where, row.summary, found, verdict.WORDS[found.kind])


def _main(every: list[Measured], task: str) -> Measured | None:
    """The evaluation that says most: on the run's own task, on held-back samples, of the set chosen with most care.

    Then at the scale the set is kept with, and on the most samples.
    """

    def rank(one: Measured) -> tuple:
        return one.task != task, one.split != "test", preference(one.name), not one.own_scale, -one.summary["n"]

    return min(every, key=rank, default=None)  # the newest of equals: they come newest first


def _headline(facts: run_facts.RunFacts, main: Measured | None) -> Point:
    if facts.collected < facts.samples:
        done = f"{facts.collected:,} of {facts.samples:,} samples have been answered"
        return Point("not finished", f"This run is not finished: {done}. What follows is what there is so far.")
    if main:
        _, _, why = main.verdict.sentence.partition(": ")  # the sentence begins with the word
        said = why[:1].upper() + why[1:] if why else main.verdict.sentence
        return Point(main.word, said if main.own_scale else f"At scale {main.scale:g}: {why or said}")
    if facts.fit is None:
        return Point("not analysed", "The model has answered, but its features have not been ranked yet.")
    if facts.fit["constant"]:
        return Point("nothing to find", ranking_words.of_ranking(facts.fit, None).sentence)
    return Point("not measured", "No set of features has been measured: whether steering helps here is not known.")


def _ranking(facts: run_facts.RunFacts) -> ranking_words.Finding | None:
    if facts.fit is None:
        return None
    return ranking_words.of_ranking(facts.fit, run_facts.chance(facts.run))


def _task(config: Mapping[str, Any]) -> Point:
    task = TASKS.get(config["task"])
    if task and not config["scorer"]:
        own = f" The samples are from the file {Path(config['data']).name}.{_columns(config)}" if config["data"] else ""
        return Point(task.title, task.description + own)
    said = f"Samples from {Path(config['data']).name}, scored by the rule \u201c{config['scorer']}\u201d."
    return Point(config["task"], said + _columns(config))


def _columns(config: Mapping[str, Any]) -> str:
    named = [f"{field} from \u201c{column}\u201d" for field, column in config.get("columns") or () if column]
    return f" Of its columns: {', '.join(named)}." if named else ""


def _set_name(name: str) -> str:
    return f"set {name}" if name in STRATEGIES else name


def _sets(run: str) -> Iterator[dict[str, Any]]:
    for row in measurements.sets(run).itertuples():
        body = json.loads(row.body)
        rows = [row for row in map(row_of, body["rows"]) if row.enabled]
        yield {
            "name": row.name,
            "what": STRATEGIES[row.name].what if row.name in STRATEGIES else "put together by hand",
            "empty": "no candidate helped beyond noise"
            if row.strategy in STRATEGIES
            else "every feature is switched off",
            "scale": body["scale"],
            "rows": rows,
        }


def _examples(run: str, main: Measured) -> dict[str, dict[str, Any]]:
    """The first samples won, lost and changed: in the order of the task, so that none is picked for its looks."""
    samples = measurements.with_flips(_samples(run, main))
    ends = shared_ends(samples["prompt"].tolist())
    found = {}
    for kind in ("won", "lost", "changed"):
        of_kind = samples[samples["flip"] == kind]
        shown = of_kind.head(EXAMPLES if kind != "changed" else EXAMPLES // 2)
        found[kind] = {"count": len(of_kind), "examples": [_example(row, ends) for row in shown.itertuples()]}
    return found


def _samples(run: str, one: Measured) -> pd.DataFrame:
    where = (one.set, one.task, one.split, one.scale)
    return measurements.evaluated_samples(run, *where, content=one.content, n=one.summary["n"])


def _example(row: Any, ends: tuple[int, int]) -> Example:
    start, end = ends
    own = row.prompt[start : len(row.prompt) - end].strip() or row.prompt
    found = differences(_cut(row.unsteered), _cut(row.steered))
    return Example(
        _cut(own),
        "" if missing(row.target) else str(row.target),
        Markup(marked(found, "unsteered")),  # noqa: S704  (escaped piece by piece)
        Markup(marked(found, "steered")),  # noqa: S704
        parting(found),
    )


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_TEXT else text[:LONGEST_TEXT].rstrip() + " … (cut here)"


def _limits(facts: run_facts.RunFacts, every: list[Measured], main: Measured | None) -> Iterator[Point]:
    if main is None:
        yield Point(
            "Nothing measured",
            "A correlation says what goes with success, not what brings it about. No set was measured.",
        )
    else:
        yield from _limits_of(main, every, facts.config["task"])
    if said := " ".join(ranking_words.of_repeats(facts.config)):
        yield Point("Prompts that repeat", said)
    yield Point(
        "One model, one task",
        "What holds for this model on this task, asked in this way, need not hold for another model, task or wording.",
    )
    yield Point(
        "Many features",
        f"{facts.features:,} features were examined. Among so many, the best look good by chance; that is why the "
        f"correlation is compared with shuffled outcomes, and the choice measured on samples that played no part in it.",
    )
    yield Point(
        "Numbers are names", "What a feature stands for is not established by this report; its number only names it."
    )


def _limits_of(main: Measured, every: list[Measured], task: str) -> Iterator[Point]:
    summary = main.summary
    low, high = summary["steered_interval"]
    yield Point(
        "How sure",
        f"{summary['n']:,} samples: with steering, a success rate from {percent(low)} to {percent(high)} is compatible with "
        f"what was seen. {verdict.gain_words(summary)}".rstrip(),
    )
    if rests := rival_groups.caveats_and_missing(summary):
        yield Point("What it rests on", rests)
    yield Point("Side effects", verdict.side_effects(summary))
    yield Point("Fluency", verdict.fluency_words(summary) or "How natural the steered texts are was not measured.")
    if main.split in ("train", "validation"):
        used = "choose" if main.split == "validation" else "rank"
        yield Point(
            "Not held back", f"The samples are those that helped to {used} the features, so the rates flatter the set."
        )
    if main.split == "shifted":
        yield Point("Shifted", "The samples were made otherwise than those of the run; nothing was chosen on them.")
    if not summary.get("controls"):
        yield Point(
            "No controls", "The set was not compared with random features of the same size; any push may do as much."
        )
    twins = [one for one in every if (one.task, one.split) == (main.task, main.split)]
    if len(twins) > 1:
        yield Point(
            "Several tries",
            f"{len(twins)} sets or scales were measured on these samples; the best of several looks better than it is.",
        )
    elsewhere = sorted({one.task for one in every} - {task})
    yield Point(
        "Elsewhere",
        f"Measured on other tasks too: {', '.join(elsewhere)} (see the table of measurements)."
        if elsewhere
        else "Not measured on other tasks: what else the set changes in the model is not known.",
    )


def _made(run: str, facts: run_facts.RunFacts) -> Iterator[Point]:
    config, fit = facts.config, facts.fit
    embedded = " (comes with the tool; 4-bit weights)" if config["model"] == EMBEDDED else ""
    model = f"{presenting.named(config['model'])}{embedded}"
    yield Point("Model", f"{model}, weights {config['model_fingerprint']}, computed in {config['dtype']}")
    yield Point("Prompts", _prompts(config))
    yield Point("Answers", f"at most {config['max_new_tokens']} new tokens, the most probable token each time")
    yield Point("Features read", said_plainly(config["pooling"]))
    if fit:
        yield Point(
            "Ranking",
            f"{fit['samples']:,} training samples; features that fired in fewer than {fit['floor']:,} of them are not ranked; "
            f"outcomes shuffled {fit['permutations']} times to see what chance reaches",
        )
    yield Point(
        "Seed",
        f"{config['seed']}{'' if config['limit'] is None else ', limited to ' + str(config['limit']) + ' samples'}",
    )
    for sae in config["saes"]:
        yield Point(
            f"SAE of layer {sae['layer']}",
            f"{presenting.named(sae['source'])} at {sae['hook_name']}, {sae['d_sae']:,} features, {sae['fingerprint']}",
        )
    yield Point("Run", f"{run}, begun {facts.created:%Y-%m-%d %H:%M} UTC")
    installed = ", ".join(f"{name} {found}" for name in PACKAGES if (found := _version(name)))
    yield Point("Installed where this report was written", f"Python {platform.python_version()}, {installed}")
    yield Point(
        "Method",
        "CorrSteer (Cho, Wu, Koshiyama, arXiv 2508.12535), with candidates chosen by measured effect for set V",
    )


def _prompts(config: Mapping[str, Any]) -> str:
    style = config["style"]
    how = "as a turn of a chat, in the model's chat template" if style["chat"] else "as plain text to go on from"
    system = f", with the system prompt \u201c{style['system']}\u201d" if style["system"] else ""
    shots = f", after {len(style['shots'])} worked examples" if style["shots"] else ""
    return how + system + shots


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
