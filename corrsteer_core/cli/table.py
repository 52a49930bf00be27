"""All commands, in the order in which --help lists them."""

from __future__ import annotations

from corrsteer_core.cli.command import Command
from corrsteer_core.cli.commands import (
    cache,
    feature,
    firing,
    fitting,
    measuring,
    planning,
    proof,
    runs,
    saes,
    sets,
    starting,
)

COMMANDS: dict[str, Command] = {
    command.name: command
    for command in (
        starting.SETUP,
        starting.APP,
        starting.DEMO,
        planning.PLAN,
        fitting.FIT,
        fitting.STUDY,
        fitting.REFIT,
        runs.RUNS,
        runs.FEATURES,
        runs.CONVERGENCE,
        feature.DESCRIBE,
        feature.FEATURE,
        firing.FIRES,
        sets.PREDICT,
        sets.SELECT,
        runs.EFFECTS,
        sets.EDIT,
        sets.GENERATE,
        sets.EXPORT,
        measuring.EVALUATE,
        proof.VERIFY,
        measuring.SWEEP,
        measuring.TRANSFER,
        measuring.BASELINE,
        runs.REPORT,
        cache.BACKUP,
        cache.CHECK_CACHE,
        saes.CHECK,
        saes.SAES,
        saes.PRESETS,
        saes.TRAIN,
    )
}
