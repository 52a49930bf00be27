"""Unpacking the embedded model, on another of its format that is small: whole or not at all, and a cause that is said."""

import errno
import sys

import pytest
from safetensors import SafetensorError

from campaign import tiny_embedded
from corrsteer_core.base.errors import CorrSteerError
from corrsteer_core.base.paths import EMBEDDED
from corrsteer_core.models import embedded
from corrsteer_core.models.loading import load_model


@pytest.fixture(autouse=True)
def package(tmp_path, monkeypatch):
    tiny_embedded.make_package(tmp_path / "packages")
    monkeypatch.syspath_prepend(tmp_path / "packages")
    monkeypatch.delitem(sys.modules, tiny_embedded.PACKAGE, raising=False)
    monkeypatch.setenv("CORRSTEER_CACHE", str(tmp_path / "cache"))


def test_the_model_is_unpacked_once_and_loads(tmp_path):
    said = []
    folder = embedded.embedded_folder(said.append)
    assert folder == tmp_path / "cache" / tiny_embedded.FOLDER
    assert {path.name for path in folder.iterdir()} == set(tiny_embedded.UNPACKED)
    assert embedded.embedded_folder(said.append) == folder
    assert len(said) == 1
    model = load_model(EMBEDDED)
    assert model.n_layers == tiny_embedded.LAYERS
    assert model.tokenizer.decode(model.tokenizer("the cat")["input_ids"]) == "the cat"
    assert [path.name for path in folder.parent.iterdir()] == [folder.name], "nothing is left over"


@pytest.mark.parametrize(
    "error",
    [OSError(errno.ENOSPC, "No space left on device"),
     SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")],
    ids=["of the system", "of safetensors"],
)  # fmt: skip
def test_a_full_disk_is_called_one_and_leaves_nothing(tmp_path, monkeypatch, error):
    def refuses(*_):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(embedded, "move_folder", refuses)
        with pytest.raises(
            CorrSteerError, match=r"embedded model could not be written .* No space left on device; make room"
        ):
            embedded.embedded_folder()
    assert list((tmp_path / "cache" / "models").iterdir()) == []
    assert (embedded.embedded_folder() / "model.safetensors").exists()


def test_an_error_of_safetensors_without_a_code_keeps_its_words():
    assert str(embedded._of_the_system(SafetensorError("header too large"))) == "header too large"
