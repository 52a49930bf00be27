"""What a set is chosen for on the validation split (see `method.validation`)."""

from __future__ import annotations

from typing import Literal, get_args

Objective = Literal["beyond_prior", "rate"]
OBJECTIVES: tuple[Objective, ...] = get_args(Objective)
