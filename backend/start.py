"""What to start: which model in this process, which servers, and why."""

import difflib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import psutil

from backend.catalogue.auto import AUTO, choose
from backend.catalogue.hub import asker
from backend.catalogue.launch import with_recipe
from backend.catalogue.machine import Gpu, read_gpus
from backend.catalogue.recipe import read_catalogue
from backend.config import Settings
from backend.errors import ConfigError
from backend.router import Correction, read_corrections
from backend.servers import Server, read_servers
from backend.vllm_args import DEMO_NAME, EnginePlan, flag_names, is_mentioned, plan_engine, vllm_version

NEAR = 0.75  # difflib's ratio from which a word is taken for a misspelling


@dataclass(frozen=True, slots=True)
class StartPlan:
    """``engine`` is ``None`` where no model is loaded into this process."""

    engine: EnginePlan | None
    servers: tuple[Server, ...]
    corrections: tuple[Correction, ...] = ()

    @property
    def lines(self) -> tuple[str, ...]:
        """What the person who starts the app reads: which models there are, and why these."""
        lines = []
        if self.engine is not None:
            engine = self.engine
            lines.append(
                f"Model: {engine.model} ({engine.reason}). It loads now; the page shows how far it is."
            )
        if self.servers:
            names = ", ".join(server.name for server in self.servers)
            lines.append(f"Servers: {names} (named by --base-url or OPENAI_BASE_URL).")
        if self.engine is None:
            lines.append("No model is loaded here, because only servers were named.")
        return tuple(lines)


def plan_start(
    settings: Settings,
    model: str | None,
    vllm_flags: Sequence[str],
    environment: Mapping[str, str],
    *,
    has_vllm: bool,
    one_only: bool = False,
    own_flags: Collection[str] = (),
    knows: Callable[[str], bool] = is_mentioned,
    gpus: Callable[[], Sequence[Gpu]] | None = None,
) -> StartPlan:
    """Decide from the settings, ``model`` as the command line names it, and the flags left for vLLM.

    With only servers named, no model is loaded here; with neither, it is the demo model. ``one_only``: with
    servers named nothing is loaded beside them, and the model is one of theirs. ``own_flags``: those of the
    command; what is left for vLLM may be one of them misspelt, unless vLLM ``knows`` it. ``gpus`` reads those
    of this machine, which is done only where the catalogue may have something to say.

    Raises:
        ConfigError: as ``plan_engine``, ``read_servers`` and ``read_corrections``; or a model is to be loaded
            and no vLLM is installed, or flags for vLLM were given and no model is loaded.
    """
    servers = read_servers(settings.base_url, settings.api_key_file, environment)
    if one_only and settings.base_url:  # what was named for this question wins over the environment
        servers = servers[: len(settings.base_url)]
    corrections = read_corrections(settings.model_info)
    names_model = model is not None or settings.model is not None or _stands_first(vllm_flags)
    if servers and (one_only or not names_model):
        if vllm_flags:
            raise _left_over(vllm_flags[0].partition("=")[0], own_flags)
        return StartPlan(None, servers, corrections)
    engine = plan_engine(model, vllm_flags, default=settings.model)
    if not has_vllm:
        raise ConfigError(
            "No vLLM is installed here, so no model can be loaded into this process.",
            "Name a server: set OPENAI_BASE_URL, or give --base-url. Or run “make install”, which adds vLLM.",
        )
    if not engine.is_demo:
        engine = _by_catalogue(engine, gpus or (lambda: read_gpus(environment)))
    for name in sorted(flag_names(vllm_flags)):
        near = _near(name, own_flags)
        if near is not None and not knows(name):  # vLLM's parser would say so half a minute later
            raise near
    return StartPlan(engine, servers, corrections)


def _by_catalogue(engine: EnginePlan, gpus: Callable[[], Sequence[Gpu]]) -> EnginePlan:
    """The plan with the recipe of its model; of ``auto`` first that model."""
    recipes, version = read_catalogue(), vllm_version()
    if engine.model != AUTO:
        return with_recipe(engine, recipes, gpus, version, psutil.virtual_memory().total)
    found = gpus()
    choice = choose(recipes, found, asker(), version)
    name = choice.model.id if choice.model is not None else DEMO_NAME
    chosen = replace(plan_engine(name, engine.argv[2:]), reason=choice.reason, notices=engine.notices)
    return with_recipe(chosen, recipes, lambda: found, version)


def _left_over(name: str, own_flags: Collection[str]) -> ConfigError:
    """Why a flag has no meaning where only servers are named."""
    return _near(name, own_flags) or ConfigError(
        f"{name} is no flag of Sightline's own, and those of vLLM mean nothing here: no model is loaded into "
        "this process, because a server was named.",
        "Leave it out; or take away --base-url and OPENAI_BASE_URL, and name a model with --model.",
    )


def _near(name: str, own_flags: Collection[str]) -> ConfigError | None:
    """What to say of a flag that looks like one of ours misspelt."""
    near = difflib.get_close_matches(name, own_flags, n=1, cutoff=NEAR)
    return ConfigError(f"There is no flag {name}.", f"Did you mean {near[0]}?") if near else None


def _stands_first(flags: Sequence[str]) -> bool:
    return bool(flags) and not flags[0].startswith("-")
