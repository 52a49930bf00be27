"""The rows about generating: collection, steering, sweeps, candidates, side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch

from benchmarks import rivals, subjects
from benchmarks.measure import Row, interleaved, ratios, shown
from benchmarks.profiles import costs
from benchmarks.subjects import Subject
from corrsteer_core.engine.batches import answers
from corrsteer_core.engine.generation import UNSTEERED, Vectors
from corrsteer_core.engine.pooling import sparse_rows
from corrsteer_core.saes.sae import Sae


@dataclass(frozen=True)
class Sizes:
    """How much is generated for each row: prompts, and repeats of everything."""

    short: int = 64
    long: int = 32
    wide: int = 16
    tried_short: int = 8
    tried_long: int = 4
    variants_of_rival: int = 2
    """Of 193: a rival's time grows in proportion."""
    alone: int = 6
    """Prompts that a rival answers one at a time, each under one variant."""
    texts: int = 3
    repeats: int = 3


QUICK = Sizes(8, 4, 4, 4, 2, 2, 2, 1, 1)


def ours(subject: Subject, prompts, new: int, variants: Sequence[Vectors] = (UNSTEERED,), saes: Sequence[Sae] = ()):
    """Tokens [prompt][variant]; with SAEs, their active features too, as they would be stored."""
    found: list[list[list[int]]] = [[] for _ in prompts]
    for batch in answers(subject.model, prompts, max_new_tokens=new, variants=variants, saes=saes):
        for place, tokens in zip(batch.prompts, batch.tokens, strict=True):
            found[place] = tokens
        for z in batch.pooled or []:
            sparse_rows(z)
    _finished()
    return found


def _finished() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


class Engine:
    """The rows for one subject; what one row finds out about the rival, the others use."""

    def __init__(self, subject: Subject, sizes: Sizes) -> None:
        self.subject, self.sizes = subject, sizes
        self._best: dict[int, int] = {}

    def plainly(self, prompts, new: int, vectors: Vectors = UNSTEERED) -> list[list[int]]:
        """The rival at its best batch size."""
        found = rivals.generate(self.subject.model, prompts, new, self.best_batch_size(new), vectors)
        _finished()
        return found

    def best_batch_size(self, new: int) -> int:
        """The batch size at which plain `generate` is fastest on this task here."""
        if new not in self._best:
            count = self.sizes.short if new == 1 else self.sizes.long
            prompts = self.subject.task(new, count)
            sizes = [size for size in rivals.BATCH_SIZES if size <= count] or [count]
            runs = {str(size): partial(rivals.generate, self.subject.model, prompts, new, size) for size in sizes}
            seconds = interleaved(runs, 1)
            self._best[new] = int(min(seconds, key=lambda size: seconds[size][0]))
        return self._best[new]

    def compared(self, row: str, run: Callable, rival: Callable, goal: float, against: str, detail: str) -> Row:
        """A row of our time over a rival's, with what our time goes to where the goal is missed."""
        seconds = interleaved({"ours": run, "rival": rival}, self.sizes.repeats)
        found = Row(
            row, against, *ratios(seconds["ours"], seconds["rival"]), goal, detail=f"{detail}; {shown(seconds)}"
        )
        return found if found.met else found.because(costs(run))

    def collection(self) -> Iterator[Row]:
        """Reading the SAEs while generating, against generating."""
        for new, count in ((1, self.sizes.short), (self.subject.steps, self.sizes.long)):
            prompts = self.subject.task(new, count)
            same = _same([row[0] for row in ours(self.subject, prompts, new)], self.plainly(prompts, new))
            yield self.compared(
                f"collection, {new}-token task",
                partial(ours, self.subject, prompts, new, saes=self.subject.saes),
                partial(self.plainly, prompts, new),
                1.05,
                f"generate(), batches of {self.best_batch_size(new)}",
                f"{count} prompts, {len(self.subject.saes)} SAEs, {same}",
            )

    def wide(self, width: int = subjects.WIDE) -> Iterator[Row]:
        """The same with a wide SAE on every layer, and against encoding at every step."""
        subject = subjects.wide(self.subject, width)
        new, count = subject.steps, self.sizes.wide
        prompts = subject.task(new, count)
        size = min(self.best_batch_size(new), count)
        what = f"{count} prompts, {len(subject.saes)} SAEs of {width:,} features"
        for steps in (1, new):
            some = subject.task(steps, count)
            yield self.compared(
                f"collection, {width:,}-wide SAEs on every layer, {steps}-token task",
                partial(ours, subject, some, steps, saes=subject.saes),
                partial(self.plainly, some, steps),
                1.5,
                f"generate(), batches of {self.best_batch_size(steps)}",
                what,
            )
        few = prompts[: self.sizes.alone]
        runs = {
            "ours": partial(ours, subject, prompts, new, saes=subject.saes),
            "every step": partial(rivals.encoding_every_step, subject.model, subject.saes, prompts, new, size),
            f"every step, {len(few)} one at a time": partial(
                rivals.encoding_every_step, subject.model, subject.saes, few, new, 1
            ),
        }
        seconds = interleaved(runs, self.sizes.repeats)
        mine, batched, alone = seconds.values()
        name = f"collection, {width:,}-wide SAEs, {new}-token task"
        found = Row(
            name, f"encoding at every step, batches of {size}", *ratios(batched, mine), 3, True, detail=shown(seconds)
        )
        yield found if found.met else found.because(costs(runs["ours"]))
        factor = count / len(few)
        yield Row(
            name, "encoding at every step, one sample at a time", *ratios(alone, mine, factor), 3, True, detail=what
        )

    def steered(self) -> Iterator[Row]:
        """Steering at every layer, against generating."""
        new, count = self.subject.steps, self.sizes.long
        prompts = self.subject.task(new, count)
        vectors = subjects.steered_everywhere(self.subject.model)
        same = _same(
            [row[0] for row in ours(self.subject, prompts, new, [vectors])], self.plainly(prompts, new, vectors)
        )
        yield self.compared(
            f"steered generation, vectors on every layer, {new}-token task",
            partial(ours, self.subject, prompts, new, [vectors]),
            partial(self.plainly, prompts, new),
            1.02,
            f"generate(), unsteered, batches of {self.best_batch_size(new)}",
            f"{count} prompts, {same} of generate() under the same hooks",
        )

    def sweep(self) -> Iterator[Row]:
        """Eight scales and the unsteered text, against one unsteered pass: generate()'s, and our own."""
        prompts = self.subject.task(1, self.sizes.short)
        run = partial(ours, self.subject, prompts, 1, subjects.scales(self.subject))
        passes = {
            f"one unsteered pass of generate(), batches of {self.best_batch_size(1)}": partial(
                self.plainly, prompts, 1
            ),
            "one unsteered pass of ours": partial(ours, self.subject, prompts, 1),
        }
        for against, rival in passes.items():
            yield self.compared("sweep of 8 scales, 1-token task", run, rival, 1.5, against, f"{len(prompts)} prompts")

    def candidates(self) -> Iterator[Row]:
        """V's candidates, against generating each from its prompt."""
        goals = {1: (10.0, 25.0), self.subject.steps: (1.5, 4.0)}
        for new, count in ((1, self.sizes.tried_short), (self.subject.steps, self.sizes.tried_long)):
            variants = subjects.candidates(self.subject)
            prompts = self.subject.task(new, count)
            size = self.best_batch_size(new)
            many = self.subject.task(new, max(size, count))
            few = variants[1 :: max(1, len(variants) // self.sizes.variants_of_rival)]
            alone = [(prompt, few[place % len(few)]) for place, prompt in enumerate(many[: self.sizes.alone])]
            seconds = interleaved(
                {
                    "ours": partial(ours, self.subject, prompts, new, variants),
                    "batched": partial(self._each, many, new, few, size),
                    "alone": partial(self._alone, alone, new),
                },
                self.sizes.repeats,
            )
            pairs = count * len(variants)
            name = f"V's candidates ({len(variants) - 1}), {new}-token task"
            what = f"{count} prompts, {pairs:,} texts; {shown(seconds)}"
            batched = ratios(seconds["batched"], seconds["ours"], pairs / (len(many) * len(few)))
            single = ratios(seconds["alone"], seconds["ours"], pairs / len(alone))
            rows = [
                Row(
                    name, f"each variant from its prompt, batches of {size}", *batched, goals[new][0], True, detail=what
                ),
                Row(
                    name,
                    "one sample and variant at a time",
                    *single,
                    goals[new][1],
                    True,
                    detail=f"{len(alone)} texts timed",
                ),
            ]
            for row in rows:
                yield row if row.met else row.because(costs(partial(ours, self.subject, prompts, new, variants)))

    def _each(self, prompts, new: int, variants: Sequence[Vectors], size: int) -> None:
        for vectors in variants:
            rivals.generate(self.subject.model, prompts, new, size, vectors)
        _finished()

    def _alone(self, texts, new: int) -> None:
        for prompt, vectors in texts:
            rivals.generate(self.subject.model, [prompt], new, 1, vectors)
        _finished()

    def side_by_side(self) -> Iterator[Row]:
        """Unsteered and steered streaming together, against one of them."""
        new = self.subject.steps
        prompts = self.subject.task(new, self.sizes.texts)
        vectors = subjects.steered_everywhere(self.subject.model)

        def texts(variants: Sequence[Vectors]) -> None:
            for prompt in prompts:
                ours(self.subject, [prompt], new, variants)

        yield self.compared(
            f"side by side, two texts of {new} tokens",
            partial(texts, [UNSTEERED, vectors]),
            partial(texts, [vectors]),
            1.3,
            "one text",
            f"{len(prompts)} prompts, one after the other",
        )


def _same(ours: list[list[int]], theirs: list[list[int]]) -> str:
    """In how many prompts both found the same tokens (they may part where two logits tie within rounding)."""
    return f"tokens equal in {sum(a == b for a, b in zip(ours, theirs, strict=True))} of {len(ours)}"
