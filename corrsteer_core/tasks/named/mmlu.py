"""mmlu: Measuring Massive Multitask Language Understanding (Hendrycks et al., arXiv 2009.03300), cais/mmlu "all".

57 subjects, four choices. Row: question, subject, choices (4 texts), answer (0 to 3).

Prompt: Answer with the letter of the right choice only.

        Find the degree for the given field extension Q(sqrt(2), sqrt(3), sqrt(18)) over Q.
        A. 0
        B. 4
        C. 2
        D. 6
        Answer:
Right:  "B"

One token: with or without a chat template the letter is what comes next if the model does as told.
The published test set stays test; validation, dev and auxiliary_train are divided between train and validation.
Of equal questions only the first stays, test before the others: 105 in test are copies of others there, mostly under
two subjects, and 27 of validation and 5 of dev stand in test (13 and none of them under the same subject).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from corrsteer_core.tasks.base import LETTERS, BetterPrompt, Draft, HubSource, Task
from corrsteer_core.tasks.parse import LETTER_ONLY, letter_of, multiple_choice, optional, sequence, text
from corrsteer_core.tasks.scoring.scorers import letter


def parse(row: Mapping[str, Any], index: int) -> Draft:
    """A row with `question`, `choices`, `answer` (index or letter) and, where known, `subject`."""
    choices = sequence(row, "choices")
    target = letter_of(row["answer"], len(choices), "answer")
    prompt = multiple_choice(text(row, "question"), choices, instruction=LETTER_ONLY)
    return Draft(prompt, target, tuple(LETTERS[: len(choices)]), optional(row, "subject"), optional(row, "id"))


PROMPTS = (
    BetterPrompt(
        "a careful expert",
        "You are an expert in the subject of the question. Weigh every choice, then answer with the letter of the right one "
        "and nothing else.",
    ),
    BetterPrompt("4 examples", shots=4),
)

TASK = Task(
    name="mmlu",
    title="MMLU",
    description="A four-way exam question from one of 57 subjects. Success: the model's next word is the right letter.",
    max_new_tokens=1,
    chat=True,
    scorer=letter,
    needs_target=True,
    source="cais/mmlu",
    parse=parse,
    fields=("question", "choices", "answer"),
    hub=HubSource("cais/mmlu", "all/", test=("test",), fit=("validation", "dev", "auxiliary_train")),
    prompts=PROMPTS,
)
