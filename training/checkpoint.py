"""Checkpoints that a later leg goes on from: folders of small files, each under 9.5 MB.

weights-1-of-2.safetensors ... hold the weights in bfloat16, as they are shipped; optimiser-*.safetensors the
momenta; state.json the model's sizes and how far the training was. The momenta may be left behind: a short
rise of the learning rate makes up for them.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

LARGEST = 9_500_000  # bytes of one file: larger ones would need Git LFS on Hugging Face
HEADER = 40_000  # bytes of a file that are names and sizes, at most


def shards(tensors: Mapping[str, Tensor], most: int = LARGEST) -> list[dict[str, Tensor]]:
    """The tensors in order, in as few groups as keep each below `most` bytes.

    Raises:
        ValueError: one tensor alone is larger.
    """
    groups: list[dict[str, Tensor]] = [{}]
    room = most - HEADER
    for name, tensor in tensors.items():
        size = tensor.numel() * tensor.element_size()
        if size > most - HEADER:
            raise ValueError(f"{name} has {size} bytes, more than {most}")
        if size > room:
            groups.append({})
            room = most - HEADER
        groups[-1][name] = tensor
        room -= size
    return groups


def write_shards(tensors: Mapping[str, Tensor], folder: Path, name: str, only: bool = False) -> list[Path]:
    """Write NAME-1-of-2.safetensors and so on; `only` gives a single file no number. Older ones go."""
    for old in folder.glob(f"{name}*.safetensors"):
        old.unlink()
    groups, paths = shards(tensors), []
    for number, group in enumerate(groups, 1):
        end = "" if only and len(groups) == 1 else f"-{number}-of-{len(groups)}"
        paths.append(folder / f"{name}{end}.safetensors")
        save_file({n: t.contiguous() for n, t in group.items()}, paths[-1], metadata={"format": "pt"})
        paths[-1].chmod(0o644)
    return paths


def read_shards(folder: Path, name: str) -> dict[str, Tensor]:
    """All tensors of NAME*.safetensors in a folder."""
    found: dict[str, Tensor] = {}
    for path in sorted(folder.glob(f"{name}*.safetensors")):
        found |= load_file(path)
    return found


def momenta(steppers: list[torch.optim.Optimizer]) -> dict[str, Tensor]:
    """The optimisers' tensors in bfloat16, by "optimiser.parameter.name"."""
    found: dict[str, Tensor] = {}
    for number, stepper in enumerate(steppers):
        for index, values in stepper.state_dict()["state"].items():
            for name, value in values.items():
                kept = value.detach().to("cpu")
                found[f"{number}.{index}.{name}"] = kept.bfloat16() if kept.ndim > 0 else kept
    return found


def put_momenta(steppers: list[torch.optim.Optimizer], found: Mapping[str, Tensor]) -> None:
    """Give the optimisers their tensors back."""
    for number, stepper in enumerate(steppers):
        state: dict[int, dict[str, Tensor]] = {}
        for key, value in found.items():
            owner, index, name = key.split(".")
            if int(owner) == number:
                state.setdefault(int(index), {})[name] = value.float()
        if state:
            stepper.load_state_dict({**stepper.state_dict(), "state": state})


def save(
    folder: Path,
    model: torch.nn.Module,
    params: Mapping[str, Any],
    steppers: list[torch.optim.Optimizer],
    state: Mapping[str, Any],
) -> None:
    """Write a checkpoint."""  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    weights = {n: p.detach().to("cpu", torch.bfloat16) for n, p in model.state_dict().items()}
    write_shards(weights, folder, "weights")
    write_shards(momenta(steppers), folder, "optimiser")
    (folder / "state.json").write_text(json.dumps({"params": dict(params), **state}, indent=1) + "\n")


def load(folder: Path, model: torch.nn.Module, steppers: list[torch.optim.Optimizer]) -> dict[str, Any]:
    """Put a checkpoint's weights, and its momenta if they are there, in place; gives its state.

    Raises:
        ValueError: there is no checkpoint in the folder, or it is of another model.
    """
    weights = read_shards(folder, "weights")
    if not weights:
        raise ValueError(f"no checkpoint in {folder}")
    try:
        model.load_state_dict({name: tensor.float() for name, tensor in weights.items()})
    except RuntimeError as error:
        raise ValueError(f"the checkpoint in {folder} is of another model") from error
    put_momenta(steppers, read_shards(folder, "optimiser"))
    state: dict[str, Any] = json.loads((folder / "state.json").read_text())
    return state
