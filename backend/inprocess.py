"""vLLM in this process: an ``Engine`` whose requests reach vLLM's own FastAPI app without a socket.

The only module that imports vllm, and only once the engine starts: that import takes seconds. vLLM's
asynchronous engine lives on an event loop of its own in a daemon thread, so that a page in the same
process keeps answering while a model loads. Supports vLLM 0.26 to 0.32; where its names moved in
between, ``_vllm`` finds them.
"""

import argparse
import asyncio
import concurrent.futures
import contextlib
import dataclasses
import importlib
import importlib.util
import os
import threading
import time
import types
from collections.abc import AsyncGenerator, Callable, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import httpx2
import psutil

from backend import vllm_log
from backend.asgi_transport import AsgiTransport
from backend.errors import ConfigError, EngineDiedError, EngineError, EngineUnavailableError, SightlineError
from backend.openai_engine import OpenAIEngine
from backend.types import Capabilities, ChatRequest, EngineState, Event
from backend.vllm_args import QUIET_FLAGS, EnginePlan, cpu_defaults

HEALTH_CHECK_S = 0.2
STOP_TIMEOUT_S = 8.0
STAGE_S = 1.0  # how long what the log told of a start is told on: every open page asks
RESTART_WINDOW_S = 600.0  # an engine that dies twice within it is given up


def prepare_environment(environment: MutableMapping[str, str], *, local_model: bool) -> None:
    """Set what vLLM and its children read from the environment; what the person set stays.

    Call it before anything imports vllm, torch or huggingface_hub.
    """
    environment.setdefault("VLLM_NO_USAGE_STATS", "1")
    environment.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    # This process has threads from the start: a forked child could inherit a lock that is held.
    environment.setdefault("VLLM_WORKER_MULTIPROC_METHOD", "spawn")
    environment.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    environment.setdefault("PYTHONWARNINGS", "ignore::FutureWarning")
    # With it set vLLM asks no platform plugin, and so not the one that mends torchvision.
    environment.pop("VLLM_TARGET_DEVICE", None)
    if local_model:
        environment.setdefault("HF_HUB_OFFLINE", "1")


@dataclass(frozen=True, slots=True)
class _Status:
    state: EngineState
    since: float
    note: str = ""
    error: SightlineError | None = None
    capabilities: Capabilities | None = None  # once ready


class InProcessEngine:
    """An ``Engine`` over vLLM in this process.

    ``on_change`` is called from the engine's thread after each change of state.
    """

    def __init__(
        self,
        plan: EnginePlan,
        log: Path,
        *,
        idle_timeout_s: float = 300.0,
        on_change: Callable[["InProcessEngine"], None] = lambda engine: None,
    ) -> None:
        self._plan = plan
        self._log = log
        self._idle_timeout_s = idle_timeout_s
        self._on_change = on_change
        self._status = _Status(EngineState.LOADING, time.monotonic())
        # Once failed or stopped it holds the error as a value: raised, one exception object would hold on
        # to every request that met it.
        self._client: concurrent.futures.Future[OpenAIEngine | SightlineError] = concurrent.futures.Future()
        self._log_start = 0  # where in the log the current start begins
        self._stage = vllm_log.stage("")
        self._stage_read_at = float("-inf")
        self._vllm_engine: Any = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="vllm", daemon=True)

    # What other threads call.

    def start(self) -> None:
        """Begin to load; returns at once."""
        self._thread.start()

    @property
    def state(self) -> EngineState:
        return self._status.state

    @property
    def error(self) -> SightlineError | None:
        """Why it failed; a ``ConfigError`` where the flags are to blame."""
        return self._status.error

    async def capabilities(self) -> Capabilities:
        """See ``Engine.capabilities``."""
        status = self._status
        seconds = time.monotonic() - status.since
        if status.capabilities is not None:
            return status.capabilities
        if status.state is EngineState.LOADING:
            stage = await self._loading_stage()
            return Capabilities(status.state, stage=f"{status.note}{stage}", state_s=seconds)
        return Capabilities(status.state, stage=str(status.error or ""), state_s=seconds)

    async def _loading_stage(self) -> str:
        now = time.monotonic()
        if now - self._stage_read_at >= STAGE_S:
            self._stage_read_at = now
            log = await asyncio.to_thread(vllm_log.read_tail, self._log, self._log_start)
            self._stage = vllm_log.stage(log)
        return self._stage

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Event, None]:
        """See ``Engine.stream``; waits while the engine loads."""
        client = await asyncio.shield(asyncio.wrap_future(self._client))
        if isinstance(client, SightlineError):
            raise type(client)(client.what, client.action)
        answer = client.stream(self._by_served_name(request))
        del request  # with its pictures
        try:
            async for event in answer:
                yield event
        except EngineError as error:
            if not self._died():
                raise
            raise EngineDiedError(
                "The model stopped working in the middle of this answer.",
                "It is being started again; press Retry, and the answer comes once it is ready.",
            ) from error
        finally:
            await answer.aclose()

    def _by_served_name(self, request: ChatRequest) -> ChatRequest:
        """The menu shows the model as it was named; vLLM may serve it under --served-model-name."""
        now = self._status.capabilities
        if request.model != self._plan.model or now is None:
            return request
        return dataclasses.replace(request, model=now.models[0])

    def stop(self) -> None:
        """End the engine and all its processes; returns within about ten seconds."""
        self._stopping.set()
        if not self._thread.is_alive():
            return
        if self._status.state is EngineState.LOADING:
            _kill_children()  # the thread sits in vLLM's start, which ends when its child does
        self._thread.join(STOP_TIMEOUT_S)
        _kill_children()

    # What runs in the engine's thread.

    def _run(self) -> None:
        asyncio.run(self._supervise())

    async def _supervise(self) -> None:
        """Serve; start again once after a death; until stopped or failed."""
        last_start = float("-inf")
        while not self._stopping.is_set():
            try:
                await self._serve()
            except BaseException as error:  # vLLM's start ends in SystemExit as well
                if not self._stopping.is_set():
                    self._fail(error)
                    return
            if self._stopping.is_set():
                break
            if time.monotonic() - last_start < RESTART_WINDOW_S:
                self._fail(EngineDiedError("The model stopped working, twice.", "See the engine's log."))
                return
            last_start = time.monotonic()
        self._give_up(EngineUnavailableError("The app is shutting down.", "Start it again."))
        self._change(_Status(EngineState.STOPPED, time.monotonic()))

    async def _serve(self) -> None:
        """Load the model and serve until stopped, or until the engine dies: from then on it is loading."""
        self._log_start = vllm_log.size(self._log)
        vllm = _vllm()
        arguments = _parse(vllm, self._plan)
        async with vllm.build_async_engine_client(arguments) as engine:
            tasks = await engine.get_supported_tasks()
            app = vllm.build_app(arguments, tasks, engine.model_config)
            await vllm.init_app_state(engine, app.state, arguments, tasks)
            # vLLM's error handler tells its server to exit when the engine is dead.
            app.state.server = types.SimpleNamespace(should_exit=False)
            transport = AsgiTransport(app, asyncio.get_running_loop())
            self._vllm_engine = engine
            client = OpenAIEngine(
                "http://in-process/v1",
                os.environ.get("VLLM_API_KEY") or "none",
                http_client=httpx2.AsyncClient(transport=transport, timeout=None),
                idle_timeout_s=self._idle_timeout_s,
            )
            now = time.monotonic()
            self._change(_Status(EngineState.READY, now, capabilities=await _capabilities(client, engine)))
            self._client.set_result(client)
            while not self._stopping.is_set() and not engine.errored:  # noqa: ASYNC110 - no event for either
                await asyncio.sleep(HEALTH_CHECK_S)
            if not self._stopping.is_set():  # told before the engine is taken down, which takes its time
                self._log_start, self._stage = vllm_log.size(self._log), vllm_log.stage("")
                self._client = concurrent.futures.Future()
                self._change(_Status(EngineState.LOADING, time.monotonic(), note="It had stopped working. "))

    def _died(self) -> bool:
        return self._vllm_engine is not None and bool(self._vllm_engine.errored)

    def _fail(self, error: BaseException) -> None:
        told = (
            error
            if isinstance(error, SightlineError)
            else vllm_log.failure(error, vllm_log.read_tail(self._log, self._log_start))
        )
        vllm_log.write_error(self._log, error)
        self._give_up(told)
        self._change(_Status(EngineState.FAILED, time.monotonic(), error=told))

    def _give_up(self, error: SightlineError) -> None:
        if self._client.done():
            self._client = concurrent.futures.Future()
        self._client.set_result(error)

    def _change(self, status: _Status) -> None:
        self._status = status
        self._on_change(self)


async def _capabilities(client: OpenAIEngine, engine: Any) -> Capabilities:
    """What the endpoint tells, and the picture limit, which only the engine's configuration knows."""
    told = await client.capabilities()
    multimodal = engine.model_config.multimodal_config
    limit = multimodal.get_limit_per_prompt("image") if multimodal is not None else 0
    return dataclasses.replace(told, image_limit=limit)


# name -> where it is: since 0.27 or so, and before.
_NAMES = {
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


def _vllm() -> types.SimpleNamespace:
    """vLLM's names, from where the installed version has them.

    Raises:
        EngineUnavailableError: vLLM is not installed.
    """
    if importlib.util.find_spec("vllm") is None:
        raise EngineUnavailableError(
            "vLLM is not installed here.", "Run “make install”, which adds the build that fits this machine."
        )
    return types.SimpleNamespace(**{name: _import(name, *modules) for name, modules in _NAMES.items()})


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
    return argparse.ArgumentParser.format_help(_parser(_vllm()))


def _parse(vllm: types.SimpleNamespace, plan: EnginePlan) -> argparse.Namespace:
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
        defaults = cpu_defaults(plan, os.environ, psutil.virtual_memory().available)
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


def _kill_children() -> None:
    """End what is left of vLLM's processes, which are all the children that this process has."""
    children = psutil.Process().children(recursive=True)
    for child in children:
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()
    psutil.wait_procs(children, timeout=5)
