"""One generation of the Steer page, in the background: what was asked, and the texts as they grow.

It goes on whatever is clicked meanwhile, and stops when it is cancelled or when nobody looks any more.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, replace

from app.shared.components import MOST_TOKENS, log
from app.shared.models import Bench
from app.steer.chat import Turns, conversation
from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.base.progress import Progress, silent
from corrsteer_core.base.text_diff import Side
from corrsteer_core.engine.choosing import sampled
from corrsteer_core.engine.steering import variant_of
from corrsteer_core.inspection import playground
from corrsteer_core.inspection.token_probabilities import TokenStep, steps
from corrsteer_core.models.prompts import Message, render, resolve_style
from corrsteer_core.runs import stored_run
from corrsteer_core.runs.run_config import RunConfig
from corrsteer_core.runs.steering_set import SteeringSet

LONGEST_PROMPT = 8_000  # characters of a typed one
HOTTEST = 2.0
LARGEST_SEED = 2**31 - 1
MORE_SCALES = (0.5, 1.0, 2.0, 4.0)
"""Global scales that can be asked for beside the set's own."""
UNATTENDED = 120.0
"""Seconds after which a generation that no page looks at is given up."""
LOADING = ("Loading the model", "Loading the features")
SCORING = "Scoring"


def most_tokens(config: RunConfig) -> int:
    """How long an answer may be asked for on the page of a run: its own length at least."""
    return max(MOST_TOKENS, config.max_new_tokens)


@dataclass(frozen=True)
class Question:
    """Everything that the answers depend on."""

    steering: SteeringSet
    prompt: str
    run: str
    sample: str = ""
    """The run's sample that the prompt is; empty for one that was typed."""
    scales: tuple[float, ...] = (1.0,)
    max_new_tokens: int = 60
    temperature: float = 0.0
    seed: int = 0
    chat: bool | None = None
    """Put the prompt to the model as a chat turn, or as plain text; None: as the set was fitted."""
    turns: Turns = ()
    """What was said before, in a chat."""

    def asked(self, side: Side) -> str | list[Message]:
        """What the unsteered or the steered texts answer: the prompt, or that side's own chat that ends with it."""
        return conversation(self.turns, self.prompt, side)


class Playing:
    """A question being answered, or answered."""

    def __init__(self, question: Question, bench: Bench) -> None:
        self.question = question
        self.stage = LOADING[0]
        self.texts: tuple[str, ...] = ()
        """Unsteered, then steered at each scale."""
        self.outcomes: tuple[float, ...] = ()
        """The scorer's verdicts on the texts, if the prompt is a sample of the run's task."""
        self.tokens: list[list[int]] = []
        """Token ids of the texts, end tokens included."""
        self.steps = 0
        self.problem = ""
        self.cancelled = False
        self._bench = bench
        self._token_steps: dict[int, list[TokenStep]] = {}
        self._ended = threading.Event()
        self.keep_alive()
        threading.Thread(target=self._answer, name="generating", daemon=True).start()

    @property
    def running(self) -> bool:
        return not self._ended.is_set()

    def keep_alive(self) -> None:
        """A page shows this; without it the work is given up after a while."""
        self._seen = time.monotonic()

    def cancel(self) -> None:
        """Stop after the step at hand; what has been written so far stays. What is being loaded is not waited for."""
        if not self.running or self.stage == SCORING:
            return  # there is nothing left to stop
        self.cancelled = True
        if self.stage in LOADING:
            self._ended.set()

    def wait(self, seconds: float | None = None) -> bool:
        """Wait for the end; whether it came."""
        return self._ended.wait(seconds)

    def token_steps(self, place: int, progress: Progress = silent) -> list[TokenStep]:
        """The text at `place` token by token: unsteered against steered at that text's scale (the first, for text 0)."""
        if place not in self._token_steps:
            model = self._bench.model()
            steering = replace(self._as_asked(model), scale=self.question.scales[max(place - 1, 0)])
            saes = self._bench.saes(steering.saes)
            prompt = render(model, self.question.asked("steered" if place else "unsteered"), steering.style)
            sharing = self._bench.sharing(progress)
            with self._bench.lock:
                self._token_steps[place] = steps(
                    model, variant_of(steering, saes), prompt, self.tokens[place], progress=sharing
                )
        return self._token_steps[place]

    def _answer(self) -> None:
        try:
            self._generate()
            if self.question.sample and not self.cancelled:
                self.stage = SCORING
                self.outcomes = self._scored()
        except CorrSteerError as error:
            self.problem = str(error)
        except Exception as error:  # a thread has nobody to raise to; the page shows the sentence
            log.exception("generating failed")
            self.problem = f"The answer could not be finished ({type(error).__name__}); the app's log says more."
        finally:
            self._ended.set()

    def _generate(self) -> None:
        asked, bench = self.question, self._bench
        model = bench.model()
        if self.cancelled:
            return
        self.stage = LOADING[1]
        saes = bench.saes(asked.steering.saes)
        steps = playground.stream(
            model,
            saes,
            self._as_asked(model),
            asked.asked("unsteered"),
            steered_prompt=asked.asked("steered"),
            scales=asked.scales,
            max_new_tokens=asked.max_new_tokens,
            choose=sampled(asked.temperature, asked.seed),
            written=self.tokens,
        )
        self.stage = "Writing"
        try:
            while not self.cancelled:
                with bench.lock:
                    texts = next(steps, None)
                if texts is None:
                    return
                self.texts, self.steps = texts, self.steps + 1
                if time.monotonic() - self._seen > UNATTENDED:
                    self.cancel()
        finally:
            steps.close()

    def _as_asked(self, model) -> SteeringSet:
        """The set, with its prompts put to the model the way that was asked for."""
        steering, chat = self.question.steering, self.question.chat
        if chat is None or chat == steering.style.chat:
            return steering
        return replace(steering, style=resolve_style(model, chat=chat, task_chat=chat))

    def _scored(self) -> tuple[float, ...]:
        config, items = stored_run.stored(self.question.run)
        item = next((item for item in items if item.id == self.question.sample), None)
        if item is None:
            return ()
        scorer = stored_run.task_of(config).scorer
        return tuple(float(scorer(text, item)) for text in self.texts)
