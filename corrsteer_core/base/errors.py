"""The one exception that is meant for users: what was found, where, and what to do; and what lack of memory looks like.

Anything else that escapes is a bug. The command line and the app print a `CorrSteerError` as
one sentence, without a traceback.
"""

_FULL = ("out of memory", "can't allocate memory", "not enough memory", "can't start new thread")
"""The last is said where there is no room for another thread's stack."""
_NO_ROOM_FOR_CODE = "could not create a primitive"
"""oneDNN's, in full, where there is no room for what it compiles; of what it does not know it cannot make a descriptor."""


class CorrSteerError(Exception):
    """Something the user can fix: bad input, a wrong pairing, a missing file."""


def out_of_memory(error: BaseException) -> bool:
    """Whether an error of Python's, PyTorch's or DuckDB's (which are not loaded for this) means that memory is full."""
    if isinstance(error, MemoryError) or type(error).__name__ in ("OutOfMemoryError", "OutOfMemoryException"):
        return True
    # Apple's GPUs and the CPU have no kind of error of their own for it.
    said = str(error).lower()
    return isinstance(error, RuntimeError) and (said == _NO_ROOM_FOR_CODE or any(words in said for words in _FULL))
