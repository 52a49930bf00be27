"""Whether a loaded model's hook points are what the tool takes them for: two short passes, once a model.

The first reads every hook point on a few tokens and holds that against transformers' `hidden_states`; in further rows of
the same batch a vector is added at one layer, and must be found behind it and not before. The second reads the tokens twice
in one row, side by side, as `engine.generation` does with variants; of models with a state in place of keys it reads them in
parts and padded, as it does with those (`models.recurrent`). So a wrong entry of LAYOUTS, a wrong guess for an
architecture without one, or a way of computing that the engine does not know is an error at load, never a wrong number.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from corrsteer_core.base.errors import CorrSteerError, out_of_memory
from corrsteer_core.base.hub_errors import first_line
from corrsteer_core.models.architectures import LAYOUTS, Layout, is_recurrent, layout_of
from corrsteer_core.models.attention import additive
from corrsteer_core.models.devices import computes_on
from corrsteer_core.models.hooks import PARTS, Action, Kind, Site, hooked, site_in

TOKENS = 6
"""Fewer than any window that a layer looks back through."""
FROM = 3
"""The position from which on a vector is added."""
SAME = 1e-4
"""Relative difference below which two readings of one pass are one number."""
_ATTENDING = {"full_attention", "sliding_attention"}
_RECURRENT = {"full_attention", "linear_attention"}

_CHECKED: WeakKeyDictionary[nn.Module, Layout] = WeakKeyDictionary()


@dataclass(frozen=True)
class _Reading:
    """What was read in the first pass, in float32 on the CPU: rows are texts, the first of them left as it is."""

    at: dict[tuple[int, Kind], Tensor]  # (rows, tokens, d), before anything was added there
    added: dict[Kind, Tensor]  # (d,) what was added in a row of its own
    hidden: Sequence[Tensor]  # transformers' hidden_states
    logits: Tensor  # (rows, tokens, vocabulary)
    layer: int  # where it was added
    rows: tuple[Kind, ...]  # the kinds of hook point at which something was added, from row 1 on


def checked(name: str, net: Any) -> Layout:
    """Where a transformers causal model has its hook points, tried on the model itself the first time it is asked.

    Raises CorrSteerError where they are not what they are taken for, and for an architecture with layers of a kind that the
    engine does not know how to go on from.
    """
    if net not in _CHECKED:
        layout = layout_of(name, net)
        _refuse_others(name, net)
        with _left_as_it_was(net), torch.inference_mode():
            _CHECKED[net] = _tried(name, net, layout)
    return _CHECKED[net]


def _refuse_others(name: str, net: Any) -> None:
    config = net.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ())
    # With no layer that attends, transformers' cache cannot tell how much was read.
    known = _RECURRENT if "full_attention" in kinds and is_recurrent(config) else _ATTENDING
    others = sorted(kinds - known)
    others += ["alibi"] if getattr(config, "alibi", False) else []
    if others:
        raise CorrSteerError(
            f"{name} (architecture {net.config.model_type!r}) has layers of the kind {', '.join(others)}, which this tool "
            f"cannot go on from with several variants; choose a model whose layers attend to keys and values, all of them or "
            f"some beside linear attention."
        )


@contextmanager
def _left_as_it_was(net: nn.Module) -> Iterator[None]:
    """Without dropout, and afterwards every module as it was.

    Transformers puts hooks of its own on the blocks the first time that hidden states are asked for, and a flag on the
    model that says so: both go, so that they come again when someone else asks.
    """
    before = [(module, module.training, set(module._forward_hooks), set(vars(module))) for module in net.modules()]
    net.eval()
    try:
        yield
    finally:
        for module, training, hooks, attributes in before:
            module.training = training
            for key in set(module._forward_hooks) - hooks:
                del module._forward_hooks[key]
                module._forward_hooks_with_kwargs.pop(key, None)
                module._forward_hooks_always_called.pop(key, None)
            for name in [name for name, value in vars(module).items() if value is True and name not in attributes]:
                delattr(module, name)


def _tried(name: str, net: Any, layout: Layout) -> Layout:
    """The layout with the hook points that the model proves to have. Raises CorrSteerError for a wrong one."""
    listed = net.config.model_type in LAYOUTS
    try:
        blocks = net.get_submodule(layout.blocks)
        final_norm = net.get_submodule(layout.final_norm)
        if not listed:
            lacking = [kind for kind in PARTS if not _everywhere(blocks, layout, kind)]
            if is_recurrent(net.config.get_text_config()):  # its two kinds of layers need not have one width there
                lacking.append("attn_z")
            layout = _without(layout, lacking)
        reading = _read(net, blocks, layout)
        again = _again(net, blocks)
    except Exception as error:  # another architecture's forward pass fails in as many ways as there are architectures
        if out_of_memory(error):
            raise
        if not listed and _kinds(layout)[2:]:  # the guess may have named modules of another width
            return _tried(name, net, _without(layout, PARTS))
        raise _wrong(name, net, f"a short text could not be read with them ({first_line(error)})") from error
    _check_read(name, net, reading, len(blocks), final_norm)
    if not _adds_up(reading, layout, len(blocks), net.dtype):
        if listed:
            raise _wrong(name, net, "what attention and MLP are read to add is not what their block adds")
        layout = _without(layout, PARTS)
    _check_arrives(name, net, reading, layout, len(blocks))
    _check_again(name, net, reading, again)
    return layout


def _without(layout: Layout, kinds: Sequence[Kind]) -> Layout:
    return replace(layout, **{str(kind): "" for kind in kinds})


def _everywhere(blocks: nn.ModuleList, layout: Layout, kind: Kind) -> bool:
    """Whether every block has the module of a hook point."""
    try:
        return all(site_in(block, layout, kind) is not None for block in blocks)
    except AttributeError:
        return False


def _wrong(name: str, net: Any, what: str) -> CorrSteerError:
    return CorrSteerError(
        f"The hook points of {name} (architecture {net.config.model_type!r}) are not where this tool looks for them: {what}; "
        f"choose a model of another architecture."
    )


# --- the two passes ------------------------------------------------------------------------------


def _tokens(net: Any) -> Tensor:
    """A few different tokens, away from the special ones at both ends of a vocabulary."""
    config = net.config.get_text_config()
    ids = [(place + 1) * config.vocab_size // (TOKENS + 2) for place in range(TOKENS)]
    return torch.tensor(ids, device=computes_on(net.get_input_embeddings()))


def _kinds(layout: Layout) -> list[Kind]:
    return ["resid_pre", "resid_post", *(kind for kind in PARTS if getattr(layout, kind))]


def _read(net: Any, blocks: nn.ModuleList, layout: Layout) -> _Reading:
    """Read one text, and beside it once for every kind of hook point the same text with a vector added there."""
    kinds, middle = _kinds(layout), (len(blocks) - 1) // 2
    at: dict[tuple[int, Kind], Tensor] = {}
    added: dict[Kind, Tensor] = {}

    def reading(layer: int, kind: Kind) -> Action:
        def action(activation: Tensor) -> Tensor | None:
            at[layer, kind] = activation.float().cpu().clone()  # some blocks go on to add to the very tensor
            if layer != middle:
                return None
            # As large as the stream itself, so that rounding cannot hide it.
            like = at[layer, "attn_z" if kind == "attn_z" else "resid_pre"][0, FROM]
            vector = like.roll(1).to(activation)
            added[kind] = vector.float().cpu()
            changed = activation.clone()
            changed[1 + kinds.index(kind), FROM:] += vector
            return changed

        return action

    ids = _tokens(net)
    sites = {site_in(block, layout, kind): reading(n, kind) for n, block in enumerate(blocks) for kind in kinds}
    with hooked(sites):
        out = net(
            input_ids=ids.expand(1 + len(kinds), -1), use_cache=False, output_hidden_states=True, return_dict=True
        )
    return _Reading(
        at, added, [one.float().cpu() for one in out.hidden_states], out.logits.float().cpu(), middle, tuple(kinds)
    )


def _again(net: Any, blocks: nn.ModuleList) -> dict[int, Tensor]:
    """What blocks make of the text, (copies, tokens, d), where it is read as variants are."""
    if not is_recurrent(net.config.get_text_config()):
        return _side_by_side(net, blocks)
    from corrsteer_core.models.recurrent import read_in_parts

    return read_in_parts(net, blocks, _tokens(net))


def _side_by_side(net: Any, blocks: nn.ModuleList) -> dict[int, Tensor]:
    """What blocks read, (2, tokens, d), of a text that stands twice in one row, token by token, neither seeing the other."""
    from transformers import DynamicCache

    ids = _tokens(net)
    places = torch.arange(len(ids), device=ids.device).repeat_interleave(2)
    copies = torch.arange(2 * len(ids), device=ids.device) % 2
    visible = (places[:, None] >= places) & (copies[:, None] == copies)
    at: dict[int, Tensor] = {}

    def reading(layer: int) -> Action:
        def action(activation: Tensor) -> None:
            at[layer] = activation[0].float().cpu().unflatten(0, (-1, 2)).transpose(0, 1).clone()

        return action

    sites: dict[Site, Action] = {Site(block, "output"): reading(layer) for layer, block in enumerate(blocks)}
    with hooked(sites):
        net.base_model(
            input_ids=ids.repeat_interleave(2)[None],
            attention_mask=additive(visible[None], net.dtype),
            position_ids=places[None],
            past_key_values=DynamicCache(),
            use_cache=True,
        )
    return at


# --- what must hold ------------------------------------------------------------------------------


def _apart(found: Tensor, expected: Tensor) -> Tensor:
    """Relative difference of each position: (...,)."""
    size = torch.linalg.vector_norm(expected, dim=-1).clamp_min(1e-12)
    return torch.linalg.vector_norm(found - expected, dim=-1) / size


def _coarse(dtype: torch.dtype) -> float:
    """Relative difference that two passes of one text may have: sums in another order, rounded to this type."""
    return 1e-3 if dtype in (torch.float32, torch.float64) else 0.1


def _check_read(name: str, net: Any, reading: _Reading, n_layers: int, final_norm: nn.Module) -> None:
    """Every block's input and output are transformers' hidden states."""
    if len(reading.hidden) != n_layers + 1:
        raise _wrong(name, net, f"{n_layers} blocks for {len(reading.hidden)} hidden states")
    for layer in range(n_layers):
        last = layer == n_layers - 1
        for kind, expected in (("resid_pre", layer), ("resid_post", layer + 1)):
            found = reading.at[layer, kind][0]  # type: ignore[index]  # both are Kinds
            if kind == "resid_post" and last:
                continue
            if not _is(found, reading.hidden[expected][0], SAME):
                raise _wrong(name, net, f"{kind} of layer {layer} is not transformers' hidden_states[{expected}]")
    # The last of transformers' hidden states comes after the final norm (in most architectures).
    post, final = reading.at[n_layers - 1, "resid_post"][0], reading.hidden[n_layers][0]
    where = computes_on(final_norm) if next(final_norm.parameters(), None) is not None else net.device
    normed = final_norm(post.to(where, net.dtype)).float().cpu()
    if not _is(normed, final, _coarse(net.dtype)) and not _is(post, final, SAME):
        raise _wrong(name, net, f"the final norm of layer {n_layers - 1} is not transformers' last hidden state")


def _is(found: Tensor, expected: Tensor, tolerance: float) -> bool:
    return found.shape == expected.shape and bool((_apart(found, expected) <= tolerance).all())


def _adds_up(reading: _Reading, layout: Layout, n_layers: int, dtype: torch.dtype) -> bool:
    """Whether a block's input and what its attention and MLP are read to add make its output, number by number."""
    if not layout.mlp_out or not layout.attn_out:
        return not layout.mlp_out and not layout.attn_out
    slack = 16 * torch.finfo(dtype).eps if dtype.is_floating_point else 0.1
    for layer in range(n_layers):
        terms = [reading.at[layer, kind][0] for kind in ("resid_pre", "attn_out", "mlp_out")]  # type: ignore[index]
        post = reading.at[layer, "resid_post"][0]
        if any(term.shape != post.shape for term in terms):
            return False
        size = sum((term.abs() for term in terms), post.abs())
        off = (sum(terms[1:], terms[0]) - post).abs() > slack * size
        if off.float().mean() > 0.01:
            return False
    return True


def _check_arrives(name: str, net: Any, reading: _Reading, layout: Layout, n_layers: int) -> None:
    """What is added at a layer is found behind it, from its position on and not before."""
    behind = [reading.at[layer, "resid_pre"] for layer in range(reading.layer + 1, n_layers)] + [reading.logits]
    for row, kind in enumerate(reading.rows, 1):
        if kind not in _kinds(layout):
            continue
        moved = torch.stack([_apart(one[row], one[0]) for one in behind])  # (places behind, tokens)
        before, after = moved[:, :FROM], moved[:, FROM:]
        if before.median() > _coarse(net.dtype) or after.median() <= 10 * before.median() or not after.median() > 0:
            raise _wrong(name, net, f"what is added at {kind} does not change what follows, or changes what precedes")
        if kind in ("resid_post", "mlp_out") and len(behind) > 1:
            found = (behind[0][row] - behind[0][0])[FROM:]
            if _apart(found, reading.added[kind]).median() > _coarse(net.dtype):
                raise _wrong(name, net, f"what is added at {kind} is not what arrives at the next block")


def _check_again(name: str, net: Any, reading: _Reading, again: dict[int, Tensor]) -> None:
    """Read as variants are (two copies in one row, or padded and in parts), each is the text by itself."""
    recurrent = is_recurrent(net.config.get_text_config())
    how = "behind padding and in parts" if recurrent else "when another stands beside it in one row"
    for layer, copies in again.items():
        off = _apart(copies, reading.at[layer, "resid_post"][0])
        # The middle position: in a mixture of experts rounding alone may send one to another expert. What was read from a
        # copied state is looked at by itself.
        some = off.unflatten(-1, (-1, FROM)) if recurrent else off.flatten()
        if some.median(-1).values.max() > _coarse(net.dtype):
            raise _wrong(name, net, f"layer {layer} reads a text otherwise {how}")
