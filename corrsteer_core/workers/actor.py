"""What a worker does: it loads model and SAEs once, from disk or hub, and answers one batch after another."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from corrsteer_core.base.errors import CorrSteerError, out_of_memory
from corrsteer_core.base.hub_errors import first_line
from corrsteer_core.models.devices import DTYPES
from corrsteer_core.models.limits import held_to
from corrsteer_core.models.loading import Model, load_model
from corrsteer_core.runs.steering_set import SaeRef
from corrsteer_core.saes.named_saes import saes_of
from corrsteer_core.saes.sae import Sae
from corrsteer_core.workers.parts import Parts, digest_of
from corrsteer_core.workers.units import Finished, Place, Unit
from corrsteer_core.workers.work import Work


class Worker:
    """A process with a model. Nothing is loaded before the first question, so that what goes wrong can be told."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self._model: Model | None = None
        self._saes: dict[tuple[SaeRef, ...], list[Sae]] = {}
        self._job = ""
        self._do: Callable[[list[int]], Any] | None = None
        self._work: Work | None = None
        torch.set_num_threads(place.conditions.threads)

    def about(self) -> dict[str, Any]:
        """Who it is: process, and kind of processor that numbers are computed on."""
        cuda = self.place.conditions.device == "cuda" and torch.cuda.is_available()
        processor = torch.cuda.get_device_name() if cuda else torch.backends.cpu.get_cpu_capability()
        return {"pid": os.getpid(), "processor": processor, "torch": torch.__version__}

    def do(self, held: list[Any], unit: Unit) -> Finished:
        """Compute a unit. `held` is [a reference to the work], fetched once a job."""
        try:
            return self._done(held, unit)
        except Exception as error:
            fixable = isinstance(error, CorrSteerError)
            where = traceback.extract_tb(error.__traceback__)[-1]
            at = "" if fixable or out_of_memory(error) else f" ({Path(where.filename).name}, line {where.lineno})"
            return Finished(unit.number, problem=f"{first_line(error)}{at}", fixable=fixable)

    def _done(self, held: list[Any], unit: Unit) -> Finished:
        self._get_ready(held, unit.job)
        assert self._do is not None
        assert self._work is not None
        results = list(self._do(unit.batch))
        data = self._work.encode(results)
        kept = Parts(Path(unit.folder))
        if kept.mark == unit.mark:  # the same file system
            return Finished(unit.number, kept.write(unit.number, data), None, len(results))
        return Finished(unit.number, digest_of(data), data, len(results))

    def _get_ready(self, held: list[Any], job: str) -> None:
        if self._job == job:
            return
        import ray

        model = self._loaded()
        self._work = ray.get(held[0])
        assert self._work is not None
        refs = self._work.sae_refs
        if refs and refs not in self._saes:  # jobs that take none come between those that do
            self._saes = {refs: saes_of(refs, model)}
        self._do = self._work.ready(model, self._saes.get(refs, []), lambda prompts: None)
        self._job = job

    def _loaded(self) -> Model:
        if self._model is None:
            found = load_model(
                self.place.model,
                dtype=DTYPES[self.place.dtype],
                quantize=self.place.quantized,
                device=self.place.conditions.device,
            )
            if found.fingerprint != self.place.fingerprint:
                raise CorrSteerError(
                    f"A worker found other weights under the name {self.place.model} ({found.fingerprint}) than this "
                    f"process ({self.place.fingerprint}); give all machines the same model."
                )
            self._model = held_to(found, self.place.conditions)
        return self._model
