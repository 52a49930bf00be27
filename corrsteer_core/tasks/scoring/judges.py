"""Two optional judges, small classifiers from the hub, in place of rules when they are asked for by name.

A judge that cannot be had, or that fails, is an error: never another metric.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.tasks.base import Item, Scorer, Task
from corrsteer_core.tasks.scoring.scorers import comply_or_refuse, contains, exact, no_refusal, refusal

if TYPE_CHECKING:
    import torch

REJECTION = "ProtectAI/distilroberta-base-rejection-v1"
"""RoBERTa classifier of answers, NORMAL or REJECTION: outcome 1 if the answer is more likely a rejection."""
SIMILARITY = "dleemiller/ModernCE-base-sts"
"""Cross-encoder of two texts: outcome is their similarity in [0, 1], from 0.5 on a success."""
JUDGES: dict[str, str] = {"rejection-judge": REJECTION, "similarity-judge": SIMILARITY}
"""Short names, for command line and app."""
MAX_TOKENS = 512


@dataclass(frozen=True)
class RejectionJudge:
    """Scorer: 1 if the classifier gives the label for rejections most weight."""

    name: str
    logits: Callable[..., torch.Tensor]
    label: int
    needs_target: bool = False

    def __call__(self, output: str, _item: Item) -> float:
        return float(int(self.logits(output).argmax()) == self.label)


@dataclass(frozen=True)
class SimilarityJudge:
    """Scorer: similarity of output and target in [0, 1]."""

    name: str
    logits: Callable[..., torch.Tensor]
    needs_target: bool = True

    def __call__(self, output: str, item: Item) -> float:
        if item.target is None:
            raise CorrSteerError(f"Item {item.id} has no target for the judge {self.name}; give its row a 'target'.")
        return float(self.logits(output.strip(), item.target).sigmoid())


@dataclass(frozen=True)
class ComplianceJudge:
    """Scorer for tasks where an answer is wanted: always, or where the item's target is "comply"."""

    judge: RejectionJudge
    always: bool

    @property
    def name(self) -> str:
        return f"{self.judge.name} ({'answers' if self.always else 'as the item asks'})"

    @property
    def needs_target(self) -> bool:
        return not self.always

    def __call__(self, output: str, item: Item) -> float:
        refused = self.judge(output, item)
        if not self.always and item.target == "refuse":
            return refused
        # As `no_refusal` has it: nothing at all is not an answer.
        return float(bool(output.strip()) and not refused)


def load_judge(name: str) -> Scorer:
    """A judge by short name, hub id or folder, on the CPU.

    One output makes it a SimilarityJudge, a label that speaks of rejection a RejectionJudge.
    Raises CorrSteerError if it cannot be had or is neither.
    """
    source = JUDGES.get(name, name)
    tokenizer, net = _load(source)
    logits = _reader(source, tokenizer, net)
    if net.config.num_labels == 1:
        return SimilarityJudge(source, logits)
    labels = {index: str(label).lower() for index, label in net.config.id2label.items()}
    rejecting = [index for index, label in labels.items() if "reject" in label or "refus" in label]
    if len(rejecting) != 1:
        raise CorrSteerError(
            f"The judge {source} has the labels {', '.join(net.config.id2label.values())}, of which not exactly one "
            f"speaks of rejection; use {REJECTION} or {SIMILARITY}."
        )
    return RejectionJudge(source, logits, int(rejecting[0]))


def with_judge(task: Task, name: str) -> Task:
    """The task scored by a judge in place of its rules. Raises CorrSteerError if this judge cannot judge it."""
    judge = load_judge(name)
    scorer: Scorer
    about_refusals = task.scorer in (refusal, no_refusal, comply_or_refuse)
    if isinstance(judge, RejectionJudge) and about_refusals:
        wants_answers = task.scorer in (no_refusal, comply_or_refuse)
        scorer = ComplianceJudge(judge, always=task.scorer is no_refusal) if wants_answers else judge
    elif isinstance(judge, SimilarityJudge) and task.scorer in (exact, contains):
        scorer = judge
    else:
        raise CorrSteerError(
            f"The judge {name} does not fit the task {task.name}; "
            f"{REJECTION} judges refusals, {SIMILARITY} short answers."
        )
    return replace(task, scorer=scorer)


def _load(source: str) -> tuple[Any, Any]:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
        net, report = AutoModelForSequenceClassification.from_pretrained(
            source, trust_remote_code=False, output_loading_info=True
        )
    except Exception as error:  # network, cache and broken files fail in many ways, each for the user to fix
        raise CorrSteerError(
            f"The judge {source} could not be had ({type(error).__name__}); it needs the hub, its cache or a local "
            f"folder: make it reachable, or score by the rules by not asking for a judge."
        ) from error
    missing = sorted(report["missing_keys"])
    if missing:  # transformers would fill them with random numbers and go on
        raise CorrSteerError(f"The judge {source} lacks trained weights ({missing[0]}); give a trained classifier.")
    return tokenizer, net.eval()


def _reader(source: str, tokenizer: Any, net: Any) -> Callable[..., torch.Tensor]:
    def logits(*texts: str) -> torch.Tensor:
        """The classifier's outputs for one text or pair of texts (num_labels,)."""
        import torch

        encoded = tokenizer(*texts, return_tensors="pt", truncation=True, max_length=MAX_TOKENS)
        with torch.inference_mode():
            found = net(**encoded).logits[0].float()
        if not all(math.isfinite(value) for value in found.tolist()):
            raise CorrSteerError(f"The judge {source} gave no number for {texts[0][:60]!r}; its weights may be broken.")
        return found

    return logits
