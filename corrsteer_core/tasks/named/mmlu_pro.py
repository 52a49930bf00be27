"""mmlu_pro: MMLU-Pro (Wang et al., arXiv 2406.01574), TIGER-Lab/MMLU-Pro: harder questions, up to ten choices.

Row: question_id, question, options (3 to 10 texts), answer (letter), answer_index, category.

Prompt: Answer with the letter of the right choice only.

        What is the symmetric group of order 6?
        A. S_2
        B. S_3
        ...
        Answer:
Right:  "B"

One token, as mmlu. Its validation split (70 rows) is too small to fit on and meant for few-shot examples, so the
test split is divided among train, validation and test, by category. Options "N/A" are left out if they come last.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from corrsteer_core.tasks.base import LETTERS, BetterPrompt, Draft, HubSource, Task
from corrsteer_core.tasks.parse import LETTER_ONLY, letter_of, multiple_choice, optional, sequence, text
from corrsteer_core.tasks.scoring.scorers import letter


def parse(row: Mapping[str, Any], index: int) -> Draft:
    """A row with `question`, `options`, `answer` (letter or index) and, where known, `category` and `question_id`."""
    options = sequence(row, "options")
    while len(options) > 2 and options[-1].strip() == "N/A":
        options.pop()
    target = letter_of(row["answer"], len(options), "answer")
    prompt = multiple_choice(text(row, "question"), options, instruction=LETTER_ONLY)
    group, own_id = optional(row, "category"), optional(row, "question_id")
    return Draft(prompt, target, tuple(LETTERS[: len(options)]), group, own_id)


PROMPTS = (
    BetterPrompt(
        "a careful expert",
        "You are an expert in the subject of the question. Weigh every choice, then answer with the letter of the right one "
        "and nothing else.",
    ),
    BetterPrompt("4 examples", shots=4),
)

TASK = Task(
    name="mmlu_pro",
    title="MMLU-Pro",
    description="A hard exam question with up to ten choices. Success: the model's next word is the right letter.",
    max_new_tokens=1,
    chat=True,
    scorer=letter,
    needs_target=True,
    source="TIGER-Lab/MMLU-Pro",
    parse=parse,
    fields=("question", "options", "answer"),
    hub=HubSource("TIGER-Lab/MMLU-Pro", "data/", pool=("test",)),
    prompts=PROMPTS,
)
