"""What the Hugging Face hub says of a model, asked only where a model is to be chosen by itself."""

import json
import os
from collections.abc import Callable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any

TIMEOUT_S = 5.0


class Access(StrEnum):
    """Whether a model can be had: what ``--model auto`` asks before it decides."""

    HERE = "on this machine already"
    OPEN = "free to download"
    GATED = "their owners have not granted you access"
    HIDDEN = "the hub does not show them to you"
    AWAY = "the hub cannot be reached"


def access(model: str, environment: Mapping[str, str] = os.environ, hub: Any = None) -> Access:
    """Whether this machine has a model, or can get it with the person's token. ``hub`` is for tests."""
    if is_cached(model, environment):
        return Access.HERE
    if hub is None:
        # Read when the package is imported, which nobody else has done yet.
        os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
        from huggingface_hub import HfApi  # noqa: PLC0415 - takes a moment, and is rarely wanted

        hub = HfApi()
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError  # noqa: PLC0415

    try:
        if hub.model_info(model, timeout=TIMEOUT_S).gated:
            hub.auth_check(model)
    except GatedRepoError:
        return Access.GATED
    except RepositoryNotFoundError:
        return Access.HIDDEN
    except Exception:  # whatever its client raises where there is no network, or none is wanted
        return Access.AWAY
    return Access.OPEN


def refusal(model: str, hub: Any = None) -> Exception | None:
    """Why the hub does not give a model, as its client raises it; ``None`` where it does."""
    if hub is None:
        from huggingface_hub import HfApi  # noqa: PLC0415

        hub = HfApi()
    try:
        hub.auth_check(model)
    except Exception as error:
        return error
    return None


def asker(ask: Callable[[str], Access] = access) -> Callable[[str], Access]:
    """``access``, which leaves the hub in peace once it could not be reached: each try takes its time."""
    away = False

    def answer(model: str) -> Access:
        nonlocal away
        if away:
            return Access.HERE if is_cached(model, os.environ) else Access.AWAY
        found = ask(model)
        away = found is Access.AWAY
        return found

    return answer


def cache_folder(model: str, environment: Mapping[str, str]) -> Path:
    """Where the hub's client keeps a model on this machine."""
    home = environment.get("HF_HOME") or str(Path.home() / ".cache" / "huggingface")
    cache = Path(environment.get("HF_HUB_CACHE") or Path(home) / "hub")
    return cache / f"models--{model.replace('/', '--')}"


def is_cached(model: str, environment: Mapping[str, str]) -> bool:
    """Whether the hub's cache holds weights of it, all of them, and none that are still coming."""
    folder = cache_folder(model, environment)
    if any(folder.glob("blobs/*.incomplete")):
        return False
    return any(map(_is_whole, folder.glob("snapshots/*")))


def _is_whole(snapshot: Path) -> bool:
    """Whether all files of weights are there: those that an index names, else any."""
    try:
        named = json.loads((snapshot / "model.safetensors.index.json").read_bytes())["weight_map"].values()
        return bool(named) and all((snapshot / name).exists() for name in named)
    except (OSError, ValueError, LookupError, AttributeError, TypeError):  # no index, or none that is one
        return any(file.exists() for file in snapshot.glob("*.safetensors"))  # one may lead to nothing
