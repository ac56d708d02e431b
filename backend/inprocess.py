"""vLLM in this process: an ``Engine`` whose requests reach vLLM's own FastAPI app without a socket.

vllm is imported by way of vllm_entry.py, and only once the engine starts. Its asynchronous engine lives
on an event loop of its own in a daemon thread, so that a page in the same process keeps answering while
a model loads.
"""

import argparse
import asyncio
import concurrent.futures
import contextlib
import dataclasses
import json
import logging
import os
import signal
import sys
import threading
import time
import types
from collections.abc import AsyncGenerator, Callable, Collection, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import psutil

from backend import vllm_entry, vllm_log
from backend.asgi_transport import AsgiTransport, Relayed
from backend.catalogue.download import Download
from backend.catalogue.hub import cache_folder, refusal
from backend.errors import EngineDiedError, EngineError, EngineUnavailableError, SightlineError
from backend.openai_engine import OpenAIEngine
from backend.servers import Server
from backend.types import Capabilities, ChatRequest, EngineState, Event, ModelInfo
from backend.vision_config import read_vision
from backend.vllm_args import EnginePlan

IN_PROCESS = "http://in-process"
HEALTH_CHECK_S = 0.2
STOP_TIMEOUT_S = 8.0
THREAD = "vllm"  # the name of the thread in which it loads and runs
RESTART_TIMEOUT_S = 60.0  # a load in this very process cannot be broken off
RESTARTED = "Started again. "
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
    # The second is said of the semaphores of an engine that was killed, while they are being cleaned up.
    environment.setdefault("PYTHONWARNINGS", "ignore::FutureWarning,ignore:resource_tracker:UserWarning")
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


class InProcessEngine:
    """An ``Engine`` over vLLM in this process.

    ``on_change`` is called from the engine's thread after each change of state. Stopping ends all child
    processes of this process, vLLM's, except those that ``spared`` names by their ids.
    """

    def __init__(
        self,
        plan: EnginePlan,
        log: Path,
        *,
        idle_timeout_s: float = 300.0,
        on_change: Callable[["InProcessEngine"], None] = lambda engine: None,
        spared: Callable[[], Collection[int]] = frozenset,
    ) -> None:
        self._plan = plan
        self._log = log
        self._idle_timeout_s = idle_timeout_s
        self._on_change = on_change
        self._spared = spared
        self._status = _Status(EngineState.LOADING, time.monotonic())
        # Once failed or stopped it holds the error as a value: raised, one exception object would hold on
        # to every request that met it.
        self._client: concurrent.futures.Future[OpenAIEngine | SightlineError] = concurrent.futures.Future()
        self._log_start = 0  # where in the log the current start begins
        self._stage = vllm_log.stage("")
        self._stage_read_at = float("-inf")
        self._download = Download(cache_folder(plan.model, os.environ), plan.weights_bytes)
        self._vllm_engine: Any = None
        self._transport: AsgiTransport | None = None
        self._models: tuple[ModelInfo, ...] = (ModelInfo(plan.model, remarks=plan.remarks),)
        self._served_name = plan.model
        self._stopping = threading.Event()
        self._turning = threading.Lock()  # held by whoever stops it or starts it again
        self._restarting = False
        self._closing = threading.Event()  # for good
        self._thread = self._new_thread()

    def _new_thread(self) -> threading.Thread:
        return threading.Thread(target=self._run, name=THREAD, daemon=True)

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
        if status.state is EngineState.LOADING:
            stage = f"{status.note}{await self._loading_stage()}"
        else:
            stage = str(status.error or "")
        return Capabilities(status.state, stage, time.monotonic() - status.since, self._models)

    async def _loading_stage(self) -> str:
        now = time.monotonic()
        if now - self._stage_read_at >= STAGE_S:
            self._stage_read_at = now
            self._stage = await asyncio.to_thread(self._read_stage)
        return self._stage

    def _read_stage(self) -> str:
        coming = "" if self._plan.is_local else self._download.told()
        return coming or vllm_log.stage(vllm_log.read_tail(self._log, self._log_start))

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

    def relay(self, path: str, body: dict[str, Any]) -> Relayed:
        """A request to vLLM's own API, under the name by which people know the model.

        Raises:
            EngineUnavailableError: the model is not there, yet or any more.
        """
        transport = self._transport
        if self._status.state is not EngineState.READY or transport is None:
            what = (
                "The model is still loading." if self.state is EngineState.LOADING else "There is no model."
            )
            raise EngineUnavailableError(what, "Try again in a minute.")
        if body["model"] == self._plan.model:
            body = body | {"model": self._served_name}
        key = os.environ.get("VLLM_API_KEY", "")
        headers = {"content-type": "application/json"} | ({"authorization": f"Bearer {key}"} if key else {})
        data = json.dumps(dict(self._plan.request) | body).encode()
        return Relayed(
            transport, httpx2.Request("POST", f"{IN_PROCESS}{path}", content=data, headers=headers)
        )

    def _by_served_name(self, request: ChatRequest) -> ChatRequest:
        """The menu shows the model as it was named; vLLM may serve it under --served-model-name."""
        if request.model != self._plan.model:  # an adapter of --lora-modules
            return request
        return dataclasses.replace(request, model=self._served_name)

    def stop(self, timeout_s: float = STOP_TIMEOUT_S) -> None:
        """End the engine and all its processes; returns within about two seconds more than ``timeout_s``.

        A load ends only at its next step: with a shorter time its thread may be left running.
        """
        self._closing.set()
        with self._turning:
            self._end(timeout_s, self._status.state is EngineState.LOADING)

    def restart(self) -> None:
        """End the engine, whatever it does, and load it again; returns once that begins.

        Replies that are being written break off. What waits for the engine goes on waiting.

        Raises:
            EngineUnavailableError: it would not end, or somebody else is at it.
        """
        if not self._turning.acquire(blocking=False):
            raise EngineUnavailableError("The model is being restarted already.", "Wait until it is there.")
        try:
            if not self._closing.is_set():
                self._restart()
        finally:
            self._turning.release()

    def _restart(self) -> None:
        was_loading = self._status.state is EngineState.LOADING
        self._change(_Status(EngineState.LOADING, time.monotonic(), note=RESTARTED))
        if self._client.done():  # who asks from now on waits for the next engine
            self._client = concurrent.futures.Future()
        self._restarting = True
        self._end(RESTART_TIMEOUT_S, was_loading)
        self._restarting = False
        if self._closing.is_set():
            return
        if self._thread.is_alive():
            raise EngineUnavailableError("The model does not stop.", "Stop the app, and start it again.")
        if self._client.done():  # it had come up, or given up, while it was being ended
            self._client = concurrent.futures.Future()
            self._change(_Status(EngineState.LOADING, time.monotonic(), note=RESTARTED))
        self._stopping.clear()
        self._thread = self._new_thread()
        self._thread.start()

    def _end(self, timeout_s: float, is_loading: bool) -> None:
        self._stopping.set()
        if not self._thread.is_alive():
            return
        if is_loading:
            _kill_children(self._spared)  # the thread sits in vLLM's start, which ends when its child does
        deadline = time.monotonic() + timeout_s
        while self._thread.is_alive() and time.monotonic() < deadline:
            self._thread.join(HEALTH_CHECK_S)
            if self._restarting and self._closing.is_set():  # stop() has less time
                break
        _kill_children(self._spared)

    # What runs in the engine's thread.

    def _run(self) -> None:
        # A terminal sends Ctrl-C to all processes; vLLM's inherit this mask, and are ended by this one.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
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
        if self._restarting:
            return
        self._give_up(EngineUnavailableError("The app is shutting down.", "Start it again."))
        self._change(_Status(EngineState.STOPPED, time.monotonic()))

    async def _serve(self) -> None:
        """Load the model and serve until stopped, or until the engine dies: from then on it is loading."""
        self._log_start, self._stage = vllm_log.size(self._log), vllm_log.stage("")
        vllm = vllm_entry.names()
        arguments = vllm_entry.parse(vllm, self._plan)
        async with vllm.build_async_engine_client(arguments) as engine:
            tasks = await engine.get_supported_tasks()
            app = vllm.build_app(arguments, tasks, engine.model_config)
            await vllm.init_app_state(engine, app.state, arguments, tasks)
            # vLLM's error handler tells its server to exit when the engine is dead.
            app.state.server = types.SimpleNamespace(should_exit=False)
            transport = self._transport = AsgiTransport(app, asyncio.get_running_loop())
            self._vllm_engine = engine
            client = OpenAIEngine(
                Server("", f"{IN_PROCESS}/v1", os.environ.get("VLLM_API_KEY", "")),
                http_client=httpx2.AsyncClient(transport=transport, timeout=None),
                idle_timeout_s=self._idle_timeout_s,
                extra=dict(self._plan.request),
                dialect=self._plan.dialect,
            )
            if self._stopping.is_set():
                return
            self._served_name, self._models = await _menu(client, self._plan, arguments, engine.vllm_config)
            self._client.set_result(client)
            self._change(_Status(EngineState.READY, time.monotonic()))
            while not self._stopping.is_set() and not engine.errored:  # noqa: ASYNC110 - no event for either
                await asyncio.sleep(HEALTH_CHECK_S)
            if not self._stopping.is_set():  # told before the engine is taken down, which takes its time
                self._log_start, self._stage = vllm_log.size(self._log), vllm_log.stage("")
                self._client = concurrent.futures.Future()
                self._change(_Status(EngineState.LOADING, time.monotonic(), note="It had stopped working. "))

    def _died(self) -> bool:
        return self._vllm_engine is not None and bool(self._vllm_engine.errored)

    def _fail(self, error: BaseException) -> None:
        told = self._told(error)
        vllm_log.write_error(self._log, error)
        self._give_up(told)
        self._change(_Status(EngineState.FAILED, time.monotonic(), error=told))

    def _told(self, error: BaseException) -> SightlineError:
        if isinstance(error, SightlineError):
            return error
        told = vllm_log.failure(error, vllm_log.read_tail(self._log, self._log_start))
        if told.what != vllm_log.NOT_READABLE or self._plan.is_local:
            return told
        # Of Mistral's own format vLLM swallows what the hub says.
        return vllm_log.failure(refusal(self._plan.model), "", otherwise=told)

    def _give_up(self, error: SightlineError) -> None:
        if self._client.done():
            self._client = concurrent.futures.Future()
        self._client.set_result(error)

    def _change(self, status: _Status) -> None:
        self._status = status
        self._on_change(self)


async def _menu(
    client: OpenAIEngine, plan: EnginePlan, arguments: argparse.Namespace, config: Any
) -> tuple[str, tuple[ModelInfo, ...]]:
    """What vLLM calls its model; and that model under the name that the person gave, then adapters.

    The picture limit, whether it reasons, how it reads a picture and how many requests it answers at the same
    time are known only here: vLLM's list of models does not tell them.
    """
    model_config, parallel = config.model_config, config.scheduler_config.max_num_seqs
    multimodal = model_config.multimodal_config
    limit = multimodal.get_limit_per_prompt("image") if multimodal is not None else 0
    reasons = bool(getattr(arguments, "reasoning_parser", None))
    vision = read_vision(
        model_config.hf_config,
        model_config.hf_image_processor_config,
        (multimodal.mm_processor_kwargs if multimodal is not None else None) or {},
    )
    served = [
        dataclasses.replace(model, image_limit=limit, reasoning=reasons, vision=vision, parallel=parallel)
        for model in (await client.capabilities()).models
    ]
    own_names = arguments.served_model_name or [served[0].id]
    adapters = [model for model in served if model.id not in own_names]  # of --lora-modules
    return served[0].id, (dataclasses.replace(served[0], id=plan.model, remarks=plan.remarks), *adapters)


def leave_a_load_behind() -> None:
    """End at once where vLLM is still being imported, which cannot be broken off.

    Native code of its libraries that meets an interpreter taking itself down aborts the process.
    """
    if any(thread.name == THREAD for thread in threading.enumerate()):
        logging.shutdown()
        sys.stdout.flush()
        os._exit(0)


def _kill_children(spared: Callable[[], Collection[int]]) -> None:
    """End what is left of vLLM's processes: all the children that this process has, but those spared."""
    children = psutil.Process().children(recursive=True)
    kept = spared()  # after the list: whoever comes in between is not on it
    ended = [child for child in children if child.pid not in kept and not _is_tracker(child)]
    for child in ended:
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()
    psutil.wait_procs(ended, timeout=5)


def _is_tracker(process: psutil.Process) -> bool:
    """Whether it is multiprocessing's own, which also knows the semaphores of those that are spared.

    It ends with this process, and complains on the console when it has to be started a second time.
    """
    with contextlib.suppress(psutil.Error):
        return any("multiprocessing.resource_tracker" in word for word in process.cmdline())
    return False
