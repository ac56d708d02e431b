"""One menu over every engine: the model in this process, and the models of all servers."""

import asyncio
import dataclasses
import fnmatch
import logging
import shlex
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from backend.engine import Engine
from backend.errors import ConfigError, EngineUnavailableError, UnknownModelError
from backend.openai_engine import OpenAIEngine
from backend.servers import Server
from backend.types import SERVER_SIGN, Capabilities, ChatRequest, EngineState, Event, ModelInfo

log = logging.getLogger(__name__)

READY_S = 30.0  # how old a server's list of models may be
AWAY_S = 3.0  # how soon one that is away is asked again
FIRST_ANSWER_S = 3.0  # how long the first list is waited for


Correct = Callable[[ModelInfo], ModelInfo]


class _Known(BaseModel):
    """The fields of ``ModelInfo`` that a person may know better than the server."""

    model_config = ConfigDict(extra="forbid")

    context_length: int | None = Field(None, ge=1)
    image_limit: int | None = Field(None, ge=0)
    reasoning: bool | None = None
    video: bool | None = None
    box_dialect: str | None = None
    price_in: float | None = Field(None, ge=0, allow_inf_nan=False)
    price_out: float | None = Field(None, ge=0, allow_inf_nan=False)


@dataclass(frozen=True, slots=True)
class Correction:
    """What is known of the models whose id fits ``pattern`` (a shell's: ``llava*``)."""

    pattern: str
    known: tuple[tuple[str, Any], ...]

    def apply(self, model: ModelInfo) -> ModelInfo:
        fits = fnmatch.fnmatchcase(model.id, self.pattern) or fnmatch.fnmatchcase(model.name, self.pattern)
        return dataclasses.replace(model, **dict(self.known)) if fits else model


def read_corrections(items: Sequence[str]) -> tuple[Correction, ...]:
    """``--model-info "llava* context_length=4096 image_limit=1"``, each.

    Raises:
        ConfigError: it is not of this form.
    """
    corrections = []
    for item in items:
        try:
            pattern, *pairs = shlex.split(item)
            fields = dict(pair.split("=", 1) for pair in pairs)
            known = _Known.model_validate(fields).model_dump(include=set(fields))
        except (ValueError, ValidationError) as error:
            raise ConfigError(
                f"“{item}” does not say what is known of a model.",
                'Write --model-info "MODEL context_length=4096 image_limit=1 reasoning=no video=no '
                'box_dialect=NAME price_in=0.15 price_out=0.6", with what you know of it.',
            ) from error
        corrections.append(Correction(pattern, tuple(known.items())))
    return tuple(corrections)


class _Remote:
    """A server and what it told last. It is asked again when somebody looks, never in the background."""

    def __init__(self, server: Server, engine: OpenAIEngine, correct: Correct) -> None:
        self.server = server
        self.engine = engine
        self._correct = correct
        self._last = Capabilities(EngineState.LOADING, stage=f"asking “{server.name}” for its models")
        self._since = self._asked_at = time.monotonic()
        self._asking: asyncio.Task[None] | None = None

    async def capabilities(self) -> Capabilities:
        now = time.monotonic()
        first = self._last.state is EngineState.LOADING
        old = now - self._asked_at > (READY_S if self._last.state is EngineState.READY else AWAY_S)
        if self._asking is None and (first or old):
            self._asking = asyncio.create_task(self._ask())
        if first and self._asking is not None:
            await asyncio.wait({self._asking}, timeout=FIRST_ANSWER_S)
        return dataclasses.replace(self._last, state_s=time.monotonic() - self._since)

    @property
    def is_new(self) -> bool:
        return self._last.state is EngineState.LOADING

    def doubt(self) -> None:
        """It was not there just now: ask it at the next look."""
        self._asked_at = float("-inf")

    async def aclose(self) -> None:
        if self._asking is not None:
            self._asking.cancel()
        await self.engine.aclose()

    async def _ask(self) -> None:
        try:
            told = await self.engine.capabilities()
        except Exception:
            log.exception("A server's list of models could not be read")
            told = Capabilities(EngineState.FAILED, f"The models of “{self.server.name}” cannot be read.")
        finally:
            self._asking, self._asked_at = None, time.monotonic()
        told = dataclasses.replace(told, models=tuple(map(self._correct, told.models)))
        if told.state is not EngineState.READY:  # its models stay in the menu: it may come back
            told = dataclasses.replace(told, models=self._last.models)
        if told.state is not self._last.state:
            self._since = time.monotonic()
        self._last = told


class Router:
    """An ``Engine`` over all engines. ``local`` is the one of this process, where there is one.

    Lives on one event loop.
    """

    def __init__(
        self,
        local: Engine | None,
        servers: Sequence[Server] = (),
        idle_timeout_s: float = 300.0,
        corrections: Sequence[Correction] = (),
    ) -> None:
        self._local = local
        self._idle_timeout_s = idle_timeout_s
        self._corrections = tuple(corrections)
        self._remotes: dict[str, _Remote] = {}
        self._removed: list[_Remote] = []  # their connections may still be in use
        for server in servers:
            self.add_server(server)

    @property
    def servers(self) -> tuple[Server, ...]:
        return tuple(remote.server for remote in self._remotes.values())

    async def server_state(self, name: str) -> Capabilities:
        """What the server of this name told last, or tells now where it was never asked."""
        return await self._remotes[name].capabilities()

    def add_server(self, server: Server) -> None:
        """Offer a server's models too, until the app stops.

        Raises:
            ConfigError: its name is taken.
        """
        if server.name in self._remotes:
            raise ConfigError(f"There is a server “{server.name}” already.", "Choose another name.")
        engine = OpenAIEngine(server, idle_timeout_s=self._idle_timeout_s)
        self._remotes[server.name] = _Remote(server, engine, self._corrected)

    def remove_server(self, name: str) -> None:
        """Offer its models no more. Replies that it is writing go on to their end."""
        if (remote := self._remotes.pop(name, None)) is not None:
            self._removed.append(remote)

    @property
    def is_waiting(self) -> bool:
        """Whether a server has not told its models yet, nor failed to."""
        return any(remote.is_new for remote in self._remotes.values())

    async def aclose(self) -> None:
        """Close the connections to all servers."""
        await asyncio.gather(*(remote.aclose() for remote in (*self._remotes.values(), *self._removed)))

    async def capabilities(self) -> Capabilities:
        """All models, in the order of the menu; ready where any engine is."""
        told = await asyncio.gather(*map(self._look, self._sources()))
        if not told:
            return Capabilities(EngineState.FAILED, stage="No server is set.")
        order = (EngineState.READY, EngineState.LOADING, EngineState.FAILED, EngineState.STOPPED)
        best = min(told, key=lambda one: order.index(one.state))
        return dataclasses.replace(best, models=tuple(model for one in told for model in one.models))

    async def capabilities_of(self, name: str) -> Capabilities:
        """How far the engine of one model is, and that model; failed where nobody offers it."""
        found = await self.find(name)
        if found is None:
            return Capabilities(EngineState.FAILED, stage="This model is not offered here.")
        source, model = found
        return dataclasses.replace(await source.capabilities(), models=(model,))

    async def find(self, name: str) -> "tuple[_Source, ModelInfo] | None":
        """The model of this name, or with this id where only one has it; and who offers it."""
        known = self._remotes.get(name.rpartition(SERVER_SIGN)[2]) if SERVER_SIGN in name else self._local
        if known is not None and (model := _pick(name, (await self._look(known)).models)):
            return known, model  # without waiting for other servers
        sources = self._sources()
        told = await asyncio.gather(*map(self._look, sources))
        offers = [(source, model) for source, now in zip(sources, told, strict=True) for model in now.models]
        named = [offer for offer in offers if offer[1].name == name]
        called = [offer for offer in offers if offer[1].id == name]
        return named[0] if named else called[0] if len(called) == 1 else None

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Event, None]:
        """See ``Engine.stream``.

        Raises:
            UnknownModelError: nobody offers this model.
        """
        found = await self.find(request.model)
        if found is None:
            raise UnknownModelError("This model is not offered any more.", "Choose another in the settings.")
        source, model = found
        engine = source.engine if isinstance(source, _Remote) else source
        events = engine.stream(dataclasses.replace(request, model=model.id))
        del request  # with its pictures
        try:
            async with aclosing(events):
                async for event in events:
                    yield event
        except EngineUnavailableError:
            if isinstance(source, _Remote):
                source.doubt()
            raise

    def _sources(self) -> "list[_Source]":
        return [*([self._local] if self._local is not None else []), *self._remotes.values()]

    async def _look(self, source: "_Source") -> Capabilities:
        now = await source.capabilities()
        if source is not self._local:  # a server's are corrected when they come
            return now
        return dataclasses.replace(now, models=tuple(map(self._corrected, now.models)))

    def _corrected(self, model: ModelInfo) -> ModelInfo:
        for correction in self._corrections:
            model = correction.apply(model)
        return model


def _pick(name: str, models: Sequence[ModelInfo]) -> ModelInfo | None:
    return next((model for model in models if model.name == name), None)


_Source = Engine | _Remote
