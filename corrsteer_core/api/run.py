"""A cached run in a notebook: its tables, its pictures, and the sets that are chosen from it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd

from corrsteer_core.api.models import held, in_memory
from corrsteer_core.api.run_pictures import Place, RunPictures
from corrsteer_core.api.steering import Steering
from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.base.progress import Progress, silent
from corrsteer_core.runs import feature_facts, feature_lists, measurements, run_facts, stored_run
from corrsteer_core.runs.feature_lists import FeatureFilter
from corrsteer_core.runs.run_facts import RunFacts
from corrsteer_core.storage.run_folder import run_path

if TYPE_CHECKING:
    from corrsteer_core.method.run_setup import Setup
    from corrsteer_core.models.loading import Model


class Run(RunPictures):
    """One run in the cache. What it says is read from the cache at each call; only `select` and `fires` may need the model."""

    def __init__(self, name: str, setup: Setup | None = None) -> None:
        run_path(name)
        self.name = name
        self._setup = setup

    def __repr__(self) -> str:
        return f"Run({self.name!r})"

    def facts(self) -> RunFacts:
        """What the run is and how far it is: config, splits, fit, layers, success_rate (share of 1)."""
        return run_facts.facts(self.name)

    def features(self, *, limit: int = 50, **wanted: Any) -> pd.DataFrame:
        """Fitted features, highest r first: layer, feature, r, coefficient, support, frequencies, p, q, best effect.

        `wanted` narrows and sorts: `layers=(8, 15)`, `r_low=0.1`, `q_high=0.05`, `text="film"`, `sort="effect"`; see
        FeatureFilter. Without `support`, those that fired in too few training samples to be ranked are left out.
        Raises CorrSteerError for an unknown filter and a run that has not been fitted.
        """
        if unknown := set(wanted) - set(FeatureFilter.__dataclass_fields__):
            raise CorrSteerError(
                f"Features have no filter {', '.join(sorted(unknown))}; there are {', '.join(FeatureFilter.__dataclass_fields__)}."
            )
        floor = int(stored_run.fit_summary(self.name)["floor"])
        return feature_lists.features(self.name, FeatureFilter(**{"support": floor, **wanted}), limit=limit)

    def effects(self, layer: int | None = None, feature: int | None = None) -> pd.DataFrame:
        """What each candidate did when it was steered alone on the validation split, best first.

        `effect` is the steered less the unsteered rate (shares of 1), `p` of the exact McNemar test. Empty before P or
        V was selected.
        """
        return feature_lists.effects(self.name, layer, feature)

    def evaluations(self) -> pd.DataFrame:
        """What was measured with the run's sets, newest first: name, task, split, scale, n, summary (a dict), ..."""
        return measurements.evaluations(self.name)

    def evaluated_samples(self, name: str, task: str, split: str = "test", scale: float = 1.0) -> pd.DataFrame:
        """Every sample of one evaluation, with both texts and outcomes. Raises CorrSteerError if there is none."""
        return measurements.evaluated_samples(self.name, name, task, split, scale)

    def chance(self) -> pd.DataFrame:
        """What r the best feature reaches when outcomes are shuffled: layer (null: of all), level (95%), median, best, p."""
        return run_facts.chance_by_layer(self.name)

    def texts(self, layer: int, feature: int, limit: int = 10) -> pd.DataFrame:
        """The samples in which a feature was most active: sample, split, prompt, target, output, outcome, value.

        `value` is the pooled activation, in the feature's own units. Empty if it never fired.
        """
        return feature_facts.top_texts(self.name, layer, feature, limit)

    def fires(
        self, text: str, *, answer: bool = False, layers: Sequence[int] = (), among: Iterable[Place] | None = None,
        first: bool = True, everywhere: bool = True, where: Literal["all", "generation"] = "all", ranked: bool = False, sort: str = "value",
        top: int = 50,
    ) -> pd.DataFrame:  # fmt: skip
        """The features that fire on a text: layer, feature, value, share, token, tokens, r, coefficient, support, effect, at, meaning.

        `text` is read as it is, or with `answer` as a prompt of the run, together with the model's answer to it. `value`
        is the largest activation, in the feature's own units, `share` that of the largest in its layer, `at` the piece of
        text there, `tokens` at how many tokens it fires. Only `layers` and features `among` some count, and every token,
        but the very first if `first` is False; `where` "generation": only the positions that a run looks at. `everywhere`
        False leaves out features that fire at more than half of them. `ranked`
        leaves out features without an r. `sort` is "value", "share", "r" or "tokens", the largest first. Loads the model
        if nobody holds it. Raises CorrSteerError for an empty text and one that is too long.
        """
        from corrsteer_core.inspection import fired_features, firing

        setup = self._opened()
        members = None if among is None else frozenset(among)
        wanted = firing.Wanted(tuple(layers), where, first=first, everywhere=everywhere, among=members)
        found = firing.read_for(self.name, text, setup.model, setup.saes, answer=answer)
        rows = fired_features.table(self.name, found, wanted, ranked=ranked, sort=sort).head(top)
        return fired_features.named(found, rows, setup.model, setup.saes).drop(
            columns=["description", "description_source"]
        )

    def samples(self, splits: Sequence[str] = (), limit: int | None = None) -> pd.DataFrame:
        """The run's samples: sample, split, prompt, target, output, outcome (0 to 1; null where not answered yet)."""
        return measurements.samples(self.name, splits, limit)

    def sets(self) -> dict[str, Steering]:
        """The steering sets kept with the run, by name, oldest first."""
        return {name: Steering.of(one) for name, one in stored_run.kept_sets(self.name).items()}

    def keep(self, steering: Steering) -> None:
        """Keep a set with the run under its name, so that the app shows it. Raises CorrSteerError for another model's."""
        config, _ = stored_run.stored(self.name)
        if steering.model_fingerprint != config.model_fingerprint:
            raise CorrSteerError(
                f"The set {steering.name!r} is of {steering.model} ({steering.model_fingerprint}), the run {self.name} of "
                f"{config.model} ({config.model_fingerprint})."
            )
        stored_run.keep_set(self.name, steering)

    def select(self, strategy: str = "V", *, progress: Progress = silent, **options: Any) -> Steering:
        """Choose a steering set by a strategy, keep it with the run, and return it.

        S takes the feature of highest r, A that of each layer, P those of A that help alone on the validation split, V
        the best found by steering candidates there. P and V need the model, which is loaded if nobody holds it; what
        they have tried before is not tried again. `options` are those of `method.selecting.select`: per_layer, scales,
        longest, ranking, negative, objective. Raises CorrSteerError when nothing can be ranked.
        """
        from corrsteer_core.method.selecting import select
        from corrsteer_core.runs.strategies import get_strategy

        setup = self._opened() if get_strategy(strategy).by_steering else self._setup
        return Steering.of(select(self.name, strategy, setup=setup, progress=progress, **options))

    def _opened(self) -> Setup:
        """The run with its model, SAEs and items in memory."""
        from corrsteer_core.method.run_setup import reopen

        if self._setup is None:
            config, _ = stored_run.stored(self.name)
            self._setup = reopen(self.name, in_memory(config.model_fingerprint))
            held(self._setup.model)
        return self._setup


def open_run(name: str, model: Model | None = None) -> Run:
    """A run in the cache by its name, as `list_runs()` has it; `model` spares loading it when a set is selected.

    Raises CorrSteerError for a name that is not there, or a model that is not the run's.
    """
    if model is None:
        return Run(name)
    from corrsteer_core.method.run_setup import reopen

    run_path(name)
    return Run(name, reopen(name, held(model)))


def list_runs() -> pd.DataFrame:
    """The cached runs, newest first: run, task, model, created, samples, collected, success_rate, fitted, measured, problem.

    `problem` says why a run cannot be read, and is null where it can.
    """
    return run_facts.runs()
