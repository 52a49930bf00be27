"""What is set aside is not searched again, and still found once it is dropped and the next call comes."""

from __future__ import annotations

import gc
import subprocess
import sys
import weakref

from corrsteer_core.base import garbage


class Ring:
    """Holds itself, so that only the search for garbage finds it."""

    def __init__(self):
        self.itself = self


def test_what_is_set_aside_is_not_searched_and_not_lost():
    held = Ring()
    seen = weakref.ref(held)
    garbage.set_aside()
    assert gc.get_freeze_count() > 1000
    del held
    gc.collect()
    assert seen() is not None, "it is not looked at"
    garbage.set_aside()
    assert seen() is None


def test_what_is_dropped_before_is_not_set_aside():
    held = Ring()
    seen = weakref.ref(held)
    del held
    garbage.set_aside()
    assert seen() is None


def test_no_library_complains_at_the_end():
    code = "import duckdb; from corrsteer_core.base import garbage; duckdb.connect(); garbage.set_aside()"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stderr == ""
