"""The whole method on one task: fit, every strategy, every control, one table. What the results page is made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.base.progress import Progress, silent
from corrsteer_core.evaluation.evaluation import Evaluation
from corrsteer_core.evaluation.exam import Exam
from corrsteer_core.evaluation.measure import evaluate_sets
from corrsteer_core.method import candidates, collecting, difference_baseline, prediction, selecting
from corrsteer_core.method.matched import matched_sets
from corrsteer_core.method.run_setup import Setup
from corrsteer_core.reporting.ranking_words import of_ranking
from corrsteer_core.reporting.verdict import verdict
from corrsteer_core.runs import run_facts, strategies
from corrsteer_core.runs.against import CONTROLS, MATCHED
from corrsteer_core.runs.fit import FitSettings
from corrsteer_core.runs.predictions import PREDICTED
from corrsteer_core.runs.steering_set import SteeringSet
from corrsteer_core.runs.strategies import STRATEGIES


def study(
    setup: Setup,
    *,
    strategies: Sequence[str] = tuple(STRATEGIES),
    rankings: Sequence[str] = (),
    per_layer: int | None = None,
    scales: Sequence[float] = strategies.SCALES,
    longest: float = strategies.LONGEST,
    control_count: int = CONTROLS,
    with_baseline: bool = True,
    batch_size: int | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Collect, fit, select by every strategy and measure all sets with their controls on the test split.

    `rankings` adds a set A by each of these other rankings. `per_layer` and `scales` are what V tries, `batch_size` how
    many prompts are read at a time.
    Returns what was found, ready for JSON: task, run, samples, fit and chance (numbers), ranking (sentence), sets
    (rows), baseline.
    """
    collecting.collect(setup, batch_size=batch_size, progress=progress)
    collecting.refit(setup.run, FitSettings(), progress)
    result = _beginning(setup)
    try:
        candidates.rankable_features(setup.run)
    except CorrSteerError as error:  # a constant outcome, or nothing above the floor: said, and no set chosen
        return {**result, "ranking": str(error)}
    options: dict[str, Any] = {"setup": setup, "progress": progress}
    trying: dict[str, Any] = {"per_layer": per_layer, "scales": scales, "longest": longest}
    sets = [
        selecting.select(setup.run, one, **options, **(trying if STRATEGIES[one].best_of_many else {}))
        for one in strategies
    ]
    if PREDICTED in rankings:
        prediction.predict(setup.run, setup=setup, progress=progress)
    sets += [selecting.select(setup.run, "A", ranking=ranking, **options) for ranking in rankings]
    result["sets"] = _measured(setup, sets, control_count, progress)
    if with_baseline:
        result["baseline"] = _baseline(setup, longest, progress)
    return result


def _beginning(setup: Setup) -> dict[str, Any]:
    """What is known before a set is chosen."""
    facts, chance = run_facts.facts(setup.run), run_facts.chance(setup.run)
    ranking = of_ranking(facts.fit or {}, chance)
    return {
        "task": setup.task.name,
        "run": setup.run,
        "model": setup.model.name,
        "splits": facts.splits.to_dict("records"),
        "fit": facts.fit,
        "chance": chance,
        "ranking": ranking.sentence,
        "beyond_chance": ranking.beyond_noise,
        "sets": [],
        "baseline": None,
    }


def _measured(
    setup: Setup, sets: Sequence[SteeringSet], control_count: int, progress: Progress
) -> list[dict[str, Any]]:
    """A row for each set, those that chose nothing last."""
    chosen = [one for one in sets if one.rows]
    empty = [{"set": one.name, "features": 0} for one in sets if not one.rows]
    if not chosen:
        return empty
    items = [item for item in setup.items if item.split == "test"]
    validation = tuple(item for item in setup.items if item.split == "validation")
    exam = Exam(
        setup.task,
        "test",
        items,
        setup.config.style,
        setup.config.max_new_tokens,
        validation=validation,
        chosen_on=False,
    )
    draws = MATCHED if control_count else 0
    matched = [matched_sets(one, draws=draws, setup=setup, progress=progress) for one in chosen] if draws else []
    found = evaluate_sets(
        chosen, exam, setup.model, setup.saes, control_count=control_count, matched=matched, progress=progress
    )
    return [{**_row(one), "features": len(of.rows)} for one, of in zip(found, chosen, strict=True)] + empty


def _row(one: Evaluation) -> dict[str, Any]:
    summary = one.summary()
    found = verdict(summary)
    return {**summary, "verdict": asdict(found), "kind": found.kind}


def _baseline(setup: Setup, longest: float, progress: Progress) -> dict[str, Any]:
    try:
        found = difference_baseline.baseline(setup, longest=longest, progress=progress)
    except CorrSteerError as error:
        return {"chosen": None, "measured": None, "problem": str(error)}
    return {"chosen": found["chosen"], "measured": found["measured"]}
