"""`plan`: what a study will take, before anything runs."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.base.hub_errors import first_line, hub_reason
from corrsteer_core.base.progress import Reporter
from corrsteer_core.cli import arguments, inputs, values
from corrsteer_core.cli.command import Command

SHARES = (1, 2, 4, 8)
"""Workers whose hours are shown; how much two really save stands in docs/benchmarks.md."""
FEATURES = 16_384
PROMPT_TOKENS, NEW_TOKENS = 256, 24


def _arguments(parser: argparse.ArgumentParser) -> None:
    arguments.run_settings(parser)
    parser.add_argument(
        "--config-only",
        action="store_true",
        help="load no weights: memory alone, from the model's configuration, as for a GPU of --memory",
    )
    parser.add_argument(
        "--memory", type=values.positive, default=80, metavar="GIB", help="of that GPU (default: %(default)s)"
    )
    parser.add_argument(
        "--features",
        type=values.positive,
        default=FEATURES,
        help="with --config-only: features of each SAE (default: %(default)s)",
    )


def _plan(options: argparse.Namespace, report: Reporter) -> dict[str, Any]:
    inputs.quiet_libraries()
    if options.config_only:
        return _by_config(options)
    from corrsteer_core.method.forecast import forecast

    setup = inputs.set_up(options, report)
    report.note("Timing a few answers")
    return forecast(setup, (options.workers,) if options.workers else SHARES)


def _by_config(options: argparse.Namespace) -> dict[str, Any]:
    import torch
    from transformers import AutoConfig

    from corrsteer_core.base.paths import EMBEDDED
    from corrsteer_core.method.forecast import GIB, memory_of_config, prompts_at_once
    from corrsteer_core.models.devices import known_bits, pick_dtype, quantized_to_go_on
    from corrsteer_core.models.embedded import embedded_folder
    from corrsteer_core.runs.run_config import QUANTIZED

    name, _ = inputs.model_and_saes(options)
    source = str(embedded_folder(lambda text: None)) if name == EMBEDDED else name
    try:
        config = AutoConfig.from_pretrained(source, trust_remote_code=False)
    except Exception as error:  # network, cache and broken files fail in many ways, each for the user to fix
        raise CorrSteerError(
            f"The configuration of {name} {hub_reason(error) or f'could not be read: {first_line(error)}'}; name a hub id or a "
            f"folder with config.json."
        ) from error
    # As whatever loads a model: what the command asks for stands in the environment by now.
    dtype, bits = pick_dtype(torch.device("meta")), known_bits(quantized_to_go_on(""))
    text = config.get_text_config()
    layers = len(options.layers) if options.layers else text.num_hidden_layers
    memory = memory_of_config(config, dtype, layers, options.features, options.memory * GIB, bits)
    new = options.max_new_tokens or NEW_TOKENS
    return {
        "model": Path(source).name if Path(source).exists() else name,
        "device": f"a GPU of {options.memory} GiB",
        "dtype": str(dtype).removeprefix("torch.") + (f", {QUANTIZED[bits]}" if bits else ""),
        "saes": f"{layers} of {options.features:,} features",
        **memory.table(),
        "prompts_at_once": prompts_at_once(memory, config, "cuda", PROMPT_TOKENS, new),
        "of_tokens": f"{PROMPT_TOKENS} and {new} new ones",
    }


PLAN = Command("plan", "what a study will take: memory, what fits, answers and hours", _arguments, _plan)
