"""Text for training SAEs: every form that is read, and what is wrong with a file said with its place."""

import gzip
import json

import pytest
from jinja2 import TemplateError

from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.saes.train_config import LARGEST_SEED, TrainConfig
from corrsteer_core.saes.training_texts import packed, read_documents

CHAT = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]


@pytest.mark.parametrize(
    ("row", "document"),
    [
        ({"prompt": "Hi", "completion": "Hello"}, CHAT),
        ({"instruction": "Hi", "input": "", "output": "Hello"}, CHAT),
        ({"question": "Hi", "answer": "Hello"}, CHAT),
        ({"chosen": "\n\nHuman: Hi\n\nAssistant: Hello"}, CHAT),
        ({"chosen": [{**CHAT[0], "id": 3}, CHAT[1]]}, CHAT),
        ({"text": "Hi"}, "Hi"),
    ],
)
def test_every_form_is_read_gzipped_or_not(tmp_path, row, document):
    (tmp_path / "x.jsonl").write_text(json.dumps(row) + "\n\n")
    (tmp_path / "x.jsonl.gz").write_bytes(gzip.compress(json.dumps(row).encode(), mtime=0))
    assert read_documents(tmp_path / "x.jsonl") == read_documents(tmp_path / "x.jsonl.gz") == [document]


def test_plain_text_is_a_document_a_line(tmp_path):
    (tmp_path / "x.txt").write_text("one\n\n two\n")
    assert read_documents(tmp_path / "x.txt") == ["one", "two"]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "is not JSON: Expecting property name"),
        ("[" * 100_000, "is not JSON: maximum recursion depth"),
        ("1" * 5_000, r"is not JSON: Exceeds the limit \(4300 digits\)[^;]*$"),
        ("[]", "has none of the known fields"),
        ('{"chosen": 3}', 'has no dialogue as "chosen"'),
        ('{"chosen": []}', 'has no dialogue as "chosen"'),
        ('{"chosen": "Hi"}', 'has no dialogue as "chosen"'),
        ('{"chosen": ["Hi"]}', 'has a message in "chosen" without a text as "role" and as "content"'),
        ('{"chosen": [{"role": "user"}]}', 'has a message in "chosen" without a text'),
    ],
)
def test_what_is_wrong_is_said_with_its_line_blank_ones_counted(tmp_path, line, said):
    (tmp_path / "x.jsonl").write_text(f'{{"text": "fine"}}\n\n \n{line}\n')
    with pytest.raises(CorrSteerError, match=f"x.jsonl, line 4 {said}"):
        read_documents(tmp_path / "x.jsonl")


@pytest.mark.parametrize(
    "content", [gzip.compress(b"text\n" * 1_000, mtime=0)[:-12], b"no gzip", gzip.compress(b"a", mtime=0) + b"b"]
)
def test_a_damaged_gzip_file_is_a_sentence(tmp_path, content):
    (tmp_path / "x.txt.gz").write_bytes(content)
    with pytest.raises(CorrSteerError, match="could not be read"):
        read_documents(tmp_path / "x.txt.gz")


def test_a_gzip_file_whose_middle_is_damaged_is_a_sentence(tmp_path):
    content = bytearray(gzip.compress(bytes(range(256)) * 100, mtime=0))
    content[20:60] = b"\xff" * 40
    (tmp_path / "x.txt.gz").write_bytes(bytes(content))
    with pytest.raises(CorrSteerError, match="could not be read"):
        read_documents(tmp_path / "x.txt.gz")


class Strict:
    """A tokenizer whose template takes no system message, as Gemma's does."""

    chat_template = "{{ strict }}"

    def apply_chat_template(self, chat, tokenize):
        raise TemplateError("System role not supported")


def test_a_chat_that_the_template_refuses_is_a_sentence():
    chat = [{"role": "system", "content": "Be brief."}, *CHAT]
    said = r"begins 'Be brief.\\nHi\\nHello' has messages of system, user, assistant, .*\(System role not supported\)"
    with pytest.raises(CorrSteerError, match=said):
        next(packed([chat], Strict(), length=8, plain_share=0.0, seed=0))


@pytest.mark.parametrize("seed", [-1, 2**63, 10**20])
def test_a_seed_that_cannot_be_is_refused_before_anything_is_read(seed):
    with pytest.raises(CorrSteerError, match=f"The seed is {seed}; give a whole number from 0"):
        TrainConfig(layers=(1,), seed=seed)
    assert TrainConfig(layers=(1,), seed=2**63 - 1).seed == LARGEST_SEED
