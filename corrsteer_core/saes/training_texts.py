"""Text for training SAEs: files in, packed token sequences out.

Knows plain text (a document a line) and JSON lines with the usual field names; knows nothing of
SAEs. A document is a chat (a list of messages) or plain text.
"""

from __future__ import annotations

import gzip
import itertools
import json
import random
import re
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.base.hub_errors import first_line
from corrsteer_core.models.chat_templates import rendered

Messages = list[dict[str, str]]
Document = Messages | str

# (fields of the request, field of the answer), tried in turn.
_PAIRS = ((("prompt",), "completion"), (("instruction", "input"), "output"), (("question",), "answer"))
_SPEAKER = re.compile(r"\n\n(Human|Assistant): ")


def read_documents(path: Path) -> list[Document]:
    """All documents of one .txt or .jsonl file (either may end in .gz).

    JSON lines may hold prompt + completion, instruction (+ input) + output, question + answer,
    chosen (a dialogue marked "Human:" / "Assistant:", or a list of messages), or text.
    Raises CorrSteerError for a file that cannot be read or has none of these.
    """
    try:
        with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as file:
            lines = [(number, line) for number, line in enumerate(file, 1) if line.strip()]
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise CorrSteerError(f"The text file {path} could not be read: {error}") from error
    if path.name.removesuffix(".gz").endswith(".txt"):
        return [line.strip() for _, line in lines]
    return [_document(line, f"{path}, line {number}") for number, line in lines]


def _document(line: str, where: str) -> Document:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise CorrSteerError(f"{where} is not JSON: {str(error).partition(';')[0]}") from error
    if isinstance(row, dict):
        for request, answer in _PAIRS:
            if request[0] in row and answer in row:
                asked = "\n\n".join(str(row[key]) for key in request if row.get(key))
                return [{"role": "user", "content": asked}, {"role": "assistant", "content": str(row[answer])}]
        if "chosen" in row:
            return _dialogue(row["chosen"], where)
        if "text" in row:
            return str(row["text"])
    raise CorrSteerError(
        f"{where} has none of the known fields: prompt + completion, instruction + output, "
        f"question + answer, chosen, text."
    )


def _dialogue(chosen: Any, where: str) -> Messages:
    if isinstance(chosen, str):
        parts = _SPEAKER.split(chosen)[1:]
        roles = {"Human": "user", "Assistant": "assistant"}
        said = [{"role": roles[one], "content": words} for one, words in zip(parts[::2], parts[1::2], strict=True)]
    else:
        said = [_message(one, where) for one in chosen] if isinstance(chosen, list) else []
    if not said:
        raise CorrSteerError(f'{where} has no dialogue as "chosen": mark it "Human:" / "Assistant:", or list messages.')
    return said


def _message(value: Any, where: str) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(value.get(name), str) for name in ("role", "content")):
        raise CorrSteerError(f'{where} has a message in "chosen" without a text as "role" and as "content"; fix it.')
    return {"role": value["role"], "content": value["content"]}


def mixed(sources: list[list[Document]], seed: int) -> Iterator[Document]:
    """Documents of every source in turn, each source shuffled; a source that runs out drops out."""
    rng = random.Random(seed)
    queues = [rng.sample(source, len(source)) for source in sources]
    while queues:
        queues = [queue for queue in queues if queue]
        for queue in queues:
            yield queue.pop()


def plain(document: Document) -> str:
    """A document as text without any chat template."""
    return document if isinstance(document, str) else "\n".join(message["content"] for message in document)


def sequences(
    files: Iterable[Path], tokenizer, tokens: int, *, length: int = 128, plain_share: float = 0.25, seed: int = 0
) -> NDArray:
    """About `tokens` tokens of the files' text, as (sequences, length) token ids (see `packed`).

    Raises CorrSteerError for files that hold fewer.
    """
    documents = mixed([read_documents(file) for file in files], seed)
    ids = np.empty((tokens // length, length), dtype=np.int32)
    found = 0
    for sequence in itertools.islice(
        packed(documents, tokenizer, length=length, plain_share=plain_share, seed=seed), len(ids)
    ):
        ids[found] = sequence
        found += 1
    if found < len(ids):
        raise CorrSteerError(
            f"The text files hold {found * length:,} tokens, fewer than the {tokens:,} asked for; "
            f"add text or lower --tokens."
        )
    return ids


def packed(
    documents: Iterable[Document], tokenizer, *, length: int, plain_share: float, seed: int
) -> Iterator[list[int]]:
    """Sequences of `length` token ids, documents one after another with an end token between plain ones.

    Chats are written in the tokenizer's chat template, but a share of them (`plain_share`, in
    [0, 1]) as plain text, since base-style prompts are part of what the SAE will meet. Raises CorrSteerError for a
    chat that the template refuses.
    """
    rng = random.Random(seed)
    buffer: list[int] = []
    for document in documents:
        if isinstance(document, str) or not tokenizer.chat_template or rng.random() < plain_share:
            ids = tokenizer(plain(document), add_special_tokens=False)["input_ids"]
            ids.append(tokenizer.eos_token_id)
        else:
            ids = tokenizer(_templated(document, tokenizer), add_special_tokens=False)["input_ids"]
        buffer += ids
        while len(buffer) >= length:
            yield buffer[:length]
            buffer = buffer[length:]


def _templated(chat: Messages, tokenizer) -> str:
    from jinja2 import TemplateError

    try:
        return rendered(tokenizer, chat)
    except TemplateError as error:
        roles = ", ".join(message["role"] for message in chat)
        raise CorrSteerError(
            f"The chat that begins {plain(chat)[:60]!r} has messages of {roles[:80]}, which the model's chat template refuses "
            f'({first_line(error)}); change it, or give it as "text".'
        ) from error
