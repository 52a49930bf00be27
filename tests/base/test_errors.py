"""What lack of memory looks like."""

import pytest

from corrsteer_core.base.errors import out_of_memory


@pytest.mark.parametrize(
    ("error", "full"),
    [(MemoryError(), True), (RuntimeError("MPS backend out of memory"), True), (RuntimeError("can't start new thread"), True),
     (RuntimeError("could not create a primitive"), True), (ValueError("out of memory"), False),
     (RuntimeError("could not create a primitive descriptor for a matmul primitive"), False), (RuntimeError("a bug"), False)],
    ids=str,
)  # fmt: skip
def test_lack_of_memory_is_told_from_other_errors(error, full):
    assert out_of_memory(error) is full
