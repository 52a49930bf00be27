"""A fabricated Hugging Face cache: tiny models and SAEs in the files that the real repositories hold.

Every SAE is written twice: as its makers' file, and kept here as plain NumPy arrays, from which the
tests compute what it must do. Nothing of this goes through the code that is tested.
"""

from __future__ import annotations

import atexit
import json
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save_file
from safetensors.torch import save_file as save_torch

from tests.made.models import WIDTH, tiny

COMMIT = "0123456789abcdef0123456789abcdef01234567"
D_SAE = 48
HEADS = 64  # four heads of 16 side by side, in the Gemmas


@dataclass(frozen=True)
class Raw:
    """An SAE as NumPy arrays in float32, and what its makers say of it."""

    w_enc: np.ndarray  # (d_in, d_sae)
    w_dec: np.ndarray  # (d_sae, d_in)
    b_enc: np.ndarray
    b_dec: np.ndarray
    threshold: np.ndarray  # (d_sae,), 0 for a ReLU
    subtract: bool = False
    """Whether b_dec is taken off the input before encoding."""
    scale: float = 1.0
    """What the input is multiplied with before encoding, and the output divided by."""

    def encode(self, x: np.ndarray) -> np.ndarray:
        pre = (self.scale * x - self.subtract * self.b_dec) @ self.w_enc + self.b_enc
        return np.where(pre > self.threshold, np.maximum(pre, 0), 0)

    def decode(self, z: np.ndarray) -> np.ndarray:
        return (z @ self.w_dec + self.b_dec) / self.scale

    def directions(self) -> np.ndarray:
        return self.w_dec / self.scale


def raw(seed: int, d_in: int = WIDTH, *, threshold: float = 1.0, **named) -> Raw:
    """Random numbers that bfloat16 holds exactly, so that a file in that type says the same."""
    rng = np.random.default_rng(seed)

    def numbers(*shape: int, size: float = 1.0) -> np.ndarray:
        return torch.tensor(rng.normal(size=shape) * size).to(torch.bfloat16).float().numpy()

    return Raw(
        numbers(d_in, D_SAE, size=0.5),
        numbers(D_SAE, d_in, size=0.3),
        numbers(D_SAE, size=0.2),
        numbers(d_in, size=0.2),
        np.full(D_SAE, threshold, np.float32) * (1 + np.arange(D_SAE, dtype=np.float32) % 2),
        **named,
    )


@cache
def saved(architecture: str) -> Path:
    """Folder with the tiny model of an architecture, written once and copied from there."""
    folder = Path(tempfile.mkdtemp(prefix="corrsteer-tiny-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    made = tiny(architecture)
    made.net.save_pretrained(folder)
    made.tokenizer.save_pretrained(folder)
    return folder


class Hub:
    """The cache folder and what has been put into it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.saes: dict[str, Raw] = {}
        """By source, as `--sae` takes it."""

    def path(self, repo: str, name: str) -> Path:
        """Where a file of a repository lies; its folders are made."""
        home = self.folder / f"models--{repo.replace('/', '--')}"
        (home / "refs").mkdir(parents=True, exist_ok=True)
        (home / "refs" / "main").write_text(COMMIT)
        path = home / "snapshots" / COMMIT / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def model(self, repo: str, architecture: str) -> None:
        """A tiny random model of an architecture under the name of a real one."""
        shutil.copytree(saved(architecture), self.path(repo, "config.json").parent, dirs_exist_ok=True)

    def sae(self, source: str, sae: Raw, write: Callable[[Hub, Raw], None]) -> str:
        write(self, sae)
        self.saes[source] = sae
        return source


# --- the makers' formats -------------------------------------------------------------------------


def gemma_scope(repo: str, folder: str) -> Callable[[Hub, Raw], None]:
    """google/gemma-scope-*: one compressed NumPy file."""

    def write(hub: Hub, sae: Raw) -> None:
        np.savez(
            hub.path(repo, f"{folder}/params.npz"),
            W_enc=sae.w_enc, W_dec=sae.w_dec, b_enc=sae.b_enc, b_dec=sae.b_dec, threshold=sae.threshold,
        )  # fmt: skip

    return write


def gemma_scope_2(
    repo: str, folder: str, model: str, hook: str, config: bool = True, skip: bool = False
) -> Callable[[Hub, Raw], None]:
    """google/gemma-scope-2-*: small letters in a safetensors file, and a config.json that some folders lack."""

    def write(hub: Hub, sae: Raw) -> None:
        body = {"w_enc": sae.w_enc, "w_dec": sae.w_dec, "b_enc": sae.b_enc, "b_dec": sae.b_dec}
        more = {"affine_skip_connection": np.zeros((WIDTH, WIDTH), np.float32)} if skip else {}
        save_file({**body, **more, "threshold": sae.threshold}, hub.path(repo, f"{folder}/params.safetensors"))
        if config:
            about = {
                "architecture": "jump_relu",
                "model_name": model,
                "hf_hook_point_in": hook,
                "affine_connection": skip,
            }
            hub.path(repo, f"{folder}/config.json").write_text(json.dumps(about))

    return write


def llama_scope(repo: str, folder: str, hook: str, threshold: float) -> Callable[[Hub, Raw], None]:
    """fnlp/Llama3_1-8B-Base-*: torch's orientation in bfloat16, and hyperparams.json with one threshold for all.

    Its threshold is in units of the input as it comes; SAELens scales it as it scales the input.
    """

    def write(hub: Hub, sae: Raw) -> None:
        weights = {"encoder.weight": sae.w_enc.T, "decoder.weight": sae.w_dec.T}
        weights |= {"encoder.bias": sae.b_enc, "decoder.bias": sae.b_dec}
        tensors = {name: torch.tensor(weight).to(torch.bfloat16).contiguous() for name, weight in weights.items()}
        save_torch(tensors, hub.path(repo, f"{folder}/checkpoints/final.safetensors"))
        d = sae.w_enc.shape[0]
        about = {
            "d_model": d, "d_sae": sae.w_enc.shape[1], "hook_point_in": hook, "hook_point_out": hook,
            "jump_relu_threshold": threshold, "act_fn": "jumprelu", "norm_activation": "dataset-wise",
            "dataset_average_activation_norm": {"in": d**0.5 / sae.scale, "out": d**0.5 / sae.scale},
            "use_decoder_bias": True, "apply_decoder_bias_to_pre_encoder": False,
        }  # fmt: skip
        hub.path(repo, f"{folder}/hyperparams.json").write_text(json.dumps(about))

    return write


def saelens_old(repo: str, folder: str, model: str, hook: str, **more) -> Callable[[Hub, Raw], None]:
    """SAELens before version 6, as jbloom/GPT2-Small-SAEs-Reformatted has it: flat cfg.json, weights, sparsity."""

    def write(hub: Hub, sae: Raw) -> None:
        d_in, d_sae = sae.w_enc.shape
        about = {
            "model_name": model, "hook_point": hook, "hook_point_layer": 1, "hook_point_head_index": None,
            "d_in": d_in, "d_sae": d_sae, "dtype": "torch.float32", "device": "mps", "prepend_bos": True,
            "context_size": 128, "dataset_path": "Skylion007/openwebtext", "from_pretrained_path": None, **more,
        }  # fmt: skip
        hub.path(repo, f"{folder}/cfg.json").write_text(json.dumps(about))
        weights = {"W_enc": sae.w_enc, "W_dec": sae.w_dec, "b_enc": sae.b_enc, "b_dec": sae.b_dec}
        save_file(
            {**weights, "scaling_factor": np.ones(d_sae, np.float32)},
            hub.path(repo, f"{folder}/sae_weights.safetensors"),
        )
        save_file({"sparsity": np.full(d_sae, -3.0, np.float32)}, hub.path(repo, f"{folder}/sparsity.safetensors"))

    return write


def saelens(repo: str, folder: str, model: str, hook: str, **metadata) -> Callable[[Hub, Raw], None]:
    """SAELens from version 6 on, as its own trainer uploads it."""

    def write(hub: Hub, sae: Raw) -> None:
        d_in, d_sae = sae.w_enc.shape
        cfg = {key: metadata.pop(key) for key in ("normalize_activations",) if key in metadata}
        about = {
            "architecture": "jumprelu", "d_in": d_in, "d_sae": d_sae, "dtype": "float32", "device": "cuda",
            "apply_b_dec_to_input": sae.subtract, "normalize_activations": "none", "reshape_activations": "none", **cfg,
            "metadata": {"sae_lens_version": "6.20.0", "model_name": model, "hook_name": hook, **metadata},
        }  # fmt: skip
        hub.path(repo, f"{folder}/cfg.json").write_text(json.dumps(about))
        weights = {"W_enc": sae.w_enc, "W_dec": sae.w_dec, "b_enc": sae.b_enc, "b_dec": sae.b_dec}
        save_file({**weights, "threshold": sae.threshold}, hub.path(repo, f"{folder}/sae_weights.safetensors"))

    return write
