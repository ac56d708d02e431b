"""vLLM's own entry points, from where the installed version has them, and its parser of flags.

The only module that imports vllm, and only when it is called: that import takes seconds. Supports vLLM
0.26 to 0.32.
"""

import argparse
import importlib
import importlib.util
import os
import types
from typing import Any, cast

import psutil

from backend.errors import ConfigError, EngineUnavailableError
from backend.vllm_args import QUIET_FLAGS, EnginePlan, cpu_defaults

# name -> where it is: since 0.27 or so, and before.
_PLACES = {
    "build_async_engine_client": (
        "vllm.entrypoints.launchers.api_server.entry",
        "vllm.entrypoints.openai.api_server",
    ),
    "init_app_state": (
        "vllm.entrypoints.launchers.api_server.app_state",
        "vllm.entrypoints.openai.api_server",
    ),
    "build_app": ("vllm.entrypoints.launchers.app", "vllm.entrypoints.openai.api_server"),
    "make_arg_parser": ("vllm.entrypoints.launchers.cli_args", "vllm.entrypoints.openai.cli_args"),
    "validate_parsed_serve_args": ("vllm.entrypoints.launchers.cli_args", "vllm.entrypoints.openai.cli_args"),
    "FlexibleArgumentParser": ("vllm.utils.argparse_utils",),
    "current_platform": ("vllm.platforms",),
}


def names() -> types.SimpleNamespace:
    """vLLM's names, from where the installed version has them.

    Raises:
        EngineUnavailableError: vLLM is not installed.
    """
    if importlib.util.find_spec("vllm") is None:
        raise EngineUnavailableError(
            "vLLM is not installed here.", "Run “make install”, which adds the build that fits this machine."
        )
    return types.SimpleNamespace(**{name: _import(name, *modules) for name, modules in _PLACES.items()})


def _import(name: str, module: str, *older: str) -> Any:
    try:
        return getattr(importlib.import_module(module), name)
    except ModuleNotFoundError:
        if not older:
            raise
        return _import(name, *older)


def _parser(vllm: types.SimpleNamespace) -> argparse.ArgumentParser:
    parser = vllm.FlexibleArgumentParser(prog="sightline serve", usage="%(prog)s MODEL [flags]")
    return cast(argparse.ArgumentParser, vllm.make_arg_parser(parser))


def engine_help() -> str:
    """vLLM's own flags, as its parser describes them."""
    # The parser's own format_help() lists groups only.
    return argparse.ArgumentParser.format_help(_parser(names()))


def parse(vllm: types.SimpleNamespace, plan: EnginePlan) -> argparse.Namespace:
    """Read the plan's flags with vLLM's own parser.

    Raises:
        ConfigError: a flag that vLLM does not know, or a value that it does not take.
    """

    def refuse(message: str) -> None:
        raise ConfigError(
            f"vLLM does not take these flags: {message.removesuffix('.')}.",
            "“sightline serve --help-engine” lists vLLM's flags, --help the app's own.",
        )

    parser = _parser(vllm)
    parser.error = refuse  # type: ignore[method-assign, assignment]
    defaults: tuple[str, ...] = ()
    if vllm.current_platform.is_cpu():
        # One process less, and faster on few cores; vLLM reads it when it makes its configuration.
        os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
        # The engine, in a process of its own, has use for all cores; here threads that wait for each other
        # over a picture would only be in its way.
        importlib.import_module("torch").set_num_threads(1)
        defaults = cpu_defaults(plan, os.environ, _available_memory())
    arguments = parser.parse_args([*QUIET_FLAGS, *defaults, *plan.argv])  # the last of two wins
    if getattr(arguments, "model_tag", None):
        raise ConfigError(
            f"“{arguments.model_tag}” stands alone among the flags.",
            "The model comes first: sightline serve MODEL --flag value …",
        )
    if arguments.api_key or arguments.hf_token not in (None, False):
        raise ConfigError("A secret was given by a flag.", "Set VLLM_API_KEY or HF_TOKEN in the environment.")
    try:
        vllm.validate_parsed_serve_args(arguments)
    except (TypeError, ValueError) as error:
        refuse(str(error).removeprefix("Error: "))
    return arguments


def _available_memory() -> int:
    """The bytes of memory that vLLM would count as available.

    It looks at one memory node (of a machine with several, or one whose memory grows) and at the
    container's limit. What the whole machine has can be far more, and asking for it ends its start.
    """
    try:
        resources = importlib.import_module("vllm.utils.cpu_resource_utils")
        nodes = resources.get_memory_affinity() or [0]
        return int(min(resources.get_memory_node_info(node).available_memory for node in nodes))
    except (ImportError, AttributeError, OSError, LookupError, ValueError):  # an older vLLM, or an odd kernel
        return int(psutil.virtual_memory().available)
