"""Who answers, and how: a model with its SAEs, and what is rarely set otherwise."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

import streamlit as st

from app.shared import components as ui
from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.base.paths import EMBEDDED
from corrsteer_core.runs import poolings
from corrsteer_core.saes.presets import PRESETS

CHAT = {"The task's own": None, "On": True, "Off": False}
_LAYERS = re.compile(r"\d{1,4}(,\d{1,4})*")


@dataclass(frozen=True)
class Pairing:
    """A model and its SAEs: a preset's, or named one by one."""

    preset: str | None
    model: str = ""
    sae: str = ""

    @property
    def name(self) -> str:
        """The model's."""
        return PRESETS[self.preset].model if self.preset else self.model.strip()

    def arguments(self) -> list[str]:
        """Of the command line. Raises CorrSteerError where no model is named."""
        if self.preset:
            return [f"--preset={self.preset}"]
        if not self.name:
            raise CorrSteerError(f"No model was named; {EMBEDDED} is the one that comes with the tool.")
        saes = [part.strip() for part in self.sae.split(",") if part.strip()] or ["embedded"]
        return [f"--model={self.name}", *(f"--sae={sae}" for sae in saes)]


@dataclass(frozen=True)
class Settings:
    """What the fields hold; None and "" are what the task, or the model, has."""

    limit: int | None = None
    layers: str = ""
    tokens: int | None = None
    pooling: str = poolings.DEFAULT_POOLING
    chat: bool | None = None
    shots: int = 0
    system: str = ""

    def arguments(self) -> list[str]:
        """Those that are filled in, for the command line; a value cannot pass for an option.

        Raises CorrSteerError for layers that are no numbers.
        """
        layers = re.sub(r"\s", "", self.layers)
        if layers and not _LAYERS.fullmatch(layers):
            raise CorrSteerError(
                f"--layers is {self.layers[:60]!r}; write numbers with commas between them, like 8,15,22."
            )
        found = [f"--layers={layers}"] if layers else []
        found += [f"--limit={self.limit}"] if self.limit else []
        found += [f"--max-new-tokens={self.tokens}"] if self.tokens else []
        found += [f"--pooling={self.pooling}"]
        found += [] if self.chat is None else ["--chat" if self.chat else "--no-chat"]
        found += [f"--shots={self.shots}"] if self.shots else []
        return [*found, *([f"--system={self.system}"] if self.system else [])]


def pairing() -> Pairing:
    """Which model, with which SAEs."""

    def label(name: str | None) -> str:
        return "The embedded model, or one that I name below" if name is None else PRESETS[name].title

    preset = st.selectbox("Model and its SAEs", [None, *PRESETS], format_func=label, key="new_run_preset")
    if preset is not None:
        chosen = PRESETS[preset]
        st.caption(
            f"`{chosen.model}` with `{chosen.release}`, layers 0 to {len(chosen.ids) - 1}. Downloaded from the Hugging Face "
            f"hub unless they are in its cache; *Layers* takes some of them. A large model needs a GPU."
        )
        return Pairing(preset)
    model, sae = st.columns(2)
    return Pairing(
        None,
        model.text_input("Model", key="new_run_model", help="The embedded one, a Hugging Face id, or a folder."),
        sae.text_input(
            "Feature dictionaries (SAEs)", key="new_run_sae",
            help=(
                "`embedded` for those that come with the embedded model; else a folder or release/id, several "
                "separated by commas."
            ),
        ),
    )  # fmt: skip


def settings() -> Settings:
    """All of it folded, as it is rarely set."""
    with st.expander("Rarely set: layers, length of an answer, prompt", icon=":material/tune:"):
        layers, tokens, pooling = st.columns(3)
        found: dict[str, Any] = {
            "layers": layers.text_input("Layers", placeholder="all there are", help="As 8,15,22.", key="new_run_layers"),
            "tokens": _whole(
                tokens.number_input(
                    "Longest answer (tokens)", 1, ui.MOST_TOKENS, None, placeholder="the task's own", key="new_run_tokens"
                )
            ),
            "pooling": pooling.selectbox(
                "Activation of an answer", list(poolings.POOLINGS), key="new_run_pooling",
                help=f"{poolings.in_words()}. The paper takes {poolings.DEFAULT_POOLING}.",
            ),
        }  # fmt: skip
        return Settings(**found, **_prompt_settings())


def limit() -> int | None:
    """How many samples; None: all."""
    return _whole(
        st.number_input(
            "Samples, at most", 10, None, None, 50, placeholder="all", key="new_run_limit",
            help="Fewer are answered sooner; subjects and right answers stay in proportion.",
        )
    )  # fmt: skip


def _prompt_settings() -> dict[str, Any]:
    """How a prompt is put to the model: the same while fitting, measuring and steering."""
    chat, shots, system = st.columns([1, 1, 1])
    return {
        "chat": CHAT[
            chat.selectbox(
                "Chat template", list(CHAT), key="new_run_chat",
                help="The frame of roles and turns that a tuned model was trained with; a base model has none.",
            )
        ],
        "shots": _whole(
            shots.number_input(
                "Examples before each prompt", 0, 64, key="new_run_shots",
                help="This many training samples are shown with their answers (few-shot), and used for nothing else.",
            )
        ) or 0,
        "system": system.text_input(
            "System prompt", key="new_run_system", placeholder="none", help="Needs the chat template."
        ).strip(),
    }  # fmt: skip


def _whole(value: float | None) -> int | None:
    """A number as it is counted; None for what is none."""
    return None if value is None or not math.isfinite(value) else int(value)
