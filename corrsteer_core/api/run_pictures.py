"""The app's pictures of a run, as Plotly figures for a notebook."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.runs import feature_facts, feature_lists, reliability, run_facts

if TYPE_CHECKING:
    import plotly.graph_objects as go

Place = tuple[int, int]


class RunPictures:
    """What `run.plot_...()` draws. All raise CorrSteerError where Plotly is missing or the run has nothing to draw."""

    name: str

    def plot_features(self, chosen: Place | None = None) -> go.Figure:
        """How often a feature fires (share of training samples) against its r; `chosen` (layer, feature) is ringed."""
        chance = run_facts.chance(self.name)
        points = feature_lists.cloud(self.name)
        return _figures().frequency_against_r(self._some(points, "ranked"), chance and chance["level"], chosen)

    def plot_best_by_layer(self) -> go.Figure:
        """The highest r of each layer, beside what chance reaches there."""
        return _figures().best_by_layer(self._some(feature_lists.best_by_layer(self.name), "ranked"))

    def plot_ranks(self, top: int = feature_lists.RANKS) -> go.Figure:
        """A row a layer, in it r of its `top` best features; framed where it is beyond chance."""
        return _figures().r_by_rank(self._some(feature_lists.ranks(self.name, top), "ranked"))

    def plot_convergence(self) -> go.Figure:
        """How much of the ranking fewer samples would have found (share of the top), and r of the best feature."""
        points = reliability.convergence(self.name)
        return _figures().convergence(self._some(points.dropna(subset="overlap"), "ranked"))

    def plot_effects(self, chosen: Place | None = None) -> go.Figure:
        """r of each feature that was tried against its effect (points of success) at its best scale."""
        return _figures().r_against_effect(self._some(feature_lists.best_effects(self.name), "tried"), chosen)

    def plot_effects_by_scale(self, layer: int, feature: int) -> go.Figure:
        """One feature's success rate at each scale tried, beside the unsteered one."""
        rows = feature_lists.effects(self.name, layer, feature)
        tried = feature_lists.with_intervals(self._some(rows, "tried", layer, feature))
        return _feature_figures().effects_by_scale(tried)

    def plot_activations(self, layer: int, feature: int) -> go.Figure:
        """How strongly a feature fired among right and among wrong answers, each as a share of its group."""
        bins = feature_facts.histogram(self.name, layer, feature)
        return _feature_figures().activation_histogram(self._some(bins, "active", layer, feature))

    def _some(self, frame, what: str, *place: int):
        """The frame. Raises CorrSteerError, with what to do, if it is empty."""
        if len(frame):
            return frame
        who = "Feature {1} of layer {0}".format(*place) if place else "No feature"
        was = (
            "has not been"
            if place and what == "tried"
            else "was never"
            if place
            else "has been"
            if what == "tried"
            else "can be"
        )
        todo = {
            "tried": "select a set by strategy P or V first",
            "ranked": "collect more samples, or more of the outcome that is rare",
            "active": "choose a feature that fired",
        }
        raise CorrSteerError(f"{who} {was} {what} in the run {self.name}; {todo[what]}.")


def _figures() -> ModuleType:
    return _drawing("figures")


def _feature_figures() -> ModuleType:
    return _drawing("feature_figures")


def _drawing(module: str) -> ModuleType:
    """A module that draws with Plotly. Raises CorrSteerError where that is not installed."""
    try:
        return import_module(f"corrsteer_core.reporting.{module}")
    except ModuleNotFoundError as error:
        raise CorrSteerError(f"{error.name} is needed to draw; run pip install '.[app]' in the checkout.") from error
