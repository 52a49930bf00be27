"""Why something could not be had from the Hugging Face hub, in words that say what to do."""

from __future__ import annotations


def hub_reason(error: BaseException) -> str | None:
    """What an error of the hub's client means, as the end of a sentence; None when it is not about reaching the hub.

    Libraries wrap these errors in their own, so their causes are checked too.
    """
    from huggingface_hub import errors

    for cause in _chain(error):
        if isinstance(cause, errors.GatedRepoError):
            return "is gated: accept its terms on the hub and log in with 'hf auth login'"
        if isinstance(cause, (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled)):
            return "is not in the hub's cache on this machine, and the hub cannot be reached (or HF_HUB_OFFLINE is set)"
        if isinstance(cause, errors.RepositoryNotFoundError):
            return "is not on the hub, or is private: check the name, or log in with 'hf auth login'"
    return None


def _chain(error: BaseException | None) -> list[BaseException]:
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        error = error.__cause__ or error.__context__
    return found


PICKLED = "the file holds Python objects besides weights, which could run code when they are loaded, so it is not"
"""What to say of a file that PyTorch would unpickle only if told to."""


def first_line(error: BaseException) -> str:
    """The first line of an error's text, or its kind when it has none."""
    if "weights_only" in str(error):  # PyTorch's advice is to load it with its code
        return PICKLED
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
