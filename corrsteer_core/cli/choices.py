"""The names that options offer, read from the core's own tables: an entry made there shows up here.

Read when a parser is made, and only for the command that was asked for: some tables load libraries.
"""

from __future__ import annotations

from corrsteer_core.engine.export_formats import FORMATS
from corrsteer_core.runs.against import ALL, RIVALS
from corrsteer_core.runs.objectives import OBJECTIVES
from corrsteer_core.runs.poolings import POOLINGS, in_words
from corrsteer_core.runs.run_config import DTYPES
from corrsteer_core.tasks import JUDGES, SCORERS, TASKS
from corrsteer_core.tasks.base import SHIFTED, SPLITS


def strategies() -> tuple[str, ...]:
    """Ways to choose a steering set."""
    from corrsteer_core.runs.strategies import STRATEGIES

    return tuple(STRATEGIES)


def objectives() -> tuple[str, ...]:
    """What a set can be chosen for."""
    return OBJECTIVES


def rivals() -> tuple[str, ...]:
    """What a set can be put against."""
    return (*RIVALS, ALL)


def rankings() -> tuple[str, ...]:
    """What features can be ranked by, the method's own first."""
    from corrsteer_core.correlation.rankings import RANKINGS
    from corrsteer_core.runs.predictions import PREDICTED

    return (*RANKINGS, PREDICTED)


def architectures() -> tuple[str, ...]:
    """Kinds of SAE that can be trained."""
    from corrsteer_core.saes.train_config import ARCHITECTURES

    return tuple(ARCHITECTURES)


def quantized() -> tuple[str, ...]:
    """What weights may be kept in."""
    from corrsteer_core.runs.run_config import QUANTIZED

    return tuple(QUANTIZED)


def dtypes() -> tuple[str, ...]:
    """Types that a model computes in."""
    return DTYPES


def poolings() -> tuple[str, ...]:
    """How a feature's activations become one number."""
    return tuple(POOLINGS)


def export_formats() -> tuple[str, ...]:
    """What a set can be written as."""
    return tuple(FORMATS)


def files_beside() -> str:
    """Which formats write more than one file, for a help text."""
    more = {one.name: one.beside for one in FORMATS.values() if one.beside}
    return "; ".join(f"{name} also writes a {' and a '.join(beside)} beside it" for name, beside in more.items())


def splits() -> tuple[str, ...]:
    """Parts of a task's items."""
    return (*SPLITS, SHIFTED)


def tasks() -> tuple[str, ...]:
    """Tasks that have a name."""
    return tuple(TASKS)


def scorers() -> tuple[str, ...]:
    """How an answer to a task of the user's own can be scored: by rules, or by a small model."""
    return (*SCORERS, *JUDGES)


def judges() -> tuple[str, ...]:
    """Small models that score in place of rules."""
    return tuple(JUDGES)


def rival_words() -> str:
    """The rivals in words, for a help text."""
    return "; ".join(f"{name}: {what}" for name, what in RIVALS.items())


def listed(names: tuple[str, ...]) -> str:
    """Names for a help text."""
    return ", ".join(names)


def strategy_words() -> str:
    """The strategies in words, for a help text."""
    from corrsteer_core.runs.strategies import STRATEGIES

    return "; ".join(f"{one.name}: {one.what}" for one in STRATEGIES.values())


def pooling_words() -> str:
    """The poolings in words, for a help text."""
    return in_words()
