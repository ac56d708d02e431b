"""``--api``: OpenAI's API of the model in this process, on the page's port, behind a key of its own.

vLLM's own app is never reached as it is: it has ways to load adapters, to sleep and to be driven. What a
client sends is read by ``backend/api_request.py``, and what vLLM answers is passed on.
"""

import asyncio
import hmac
import json
import secrets
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from backend.admission import Admission, address_key
from backend.api_request import CHAT, TEXT, ApiLimits, PictureReader, read_request
from backend.asgi_transport import Relayed
from backend.config import MEGA, Settings
from backend.errors import (
    ConfigError,
    EngineUnavailableError,
    InputError,
    LimitError,
    SightlineError,
)
from backend.fetch import Fetcher
from backend.inprocess import InProcessEngine
from backend.picture_pool import PicturePool
from backend.types import ModelInfo
from ui.operators import MIN_CHARS, Tries
from ui.visitors import address_of

API_KEY = "SIGHTLINE_API_KEY"
ROOT = "/v1"
PATHS = frozenset({f"{ROOT}/models", f"{ROOT}{CHAT}", f"{ROOT}{TEXT}"})
FAILED = "The model failed to answer."


def api_key(environment: Mapping[str, str], *, has_model: bool) -> str:
    """The key that clients of ``--api`` have to send.

    Raises:
        ConfigError: there is none, or it can be guessed; or no model is loaded here.
    """
    if not has_model:
        raise ConfigError(
            "--api offers the model in this process, and only servers were named.",
            "Leave it out, or name a model too, with --model.",
        )
    key = environment.get(API_KEY, "").strip()
    if len(key) < MIN_CHARS or not key.isascii():
        raise ConfigError(
            f"--api wants a key of {MIN_CHARS} ASCII characters or more, which clients send.",
            f"Set the environment variable {API_KEY}, or put it into an --env-file.",
        )
    return key


@dataclass(frozen=True, slots=True)
class Api:
    """The routes, and what they need."""

    key: str
    engine: InProcessEngine
    settings: Settings
    pictures: PicturePool
    fetcher: Fetcher
    admission: Admission
    tries: Tries = field(default_factory=Tries)

    def routes(self) -> list[BaseRoute]:
        """All of them; they come before Gradio's."""
        return [
            Route(f"{ROOT}/models", self._models),
            Route(f"{ROOT}{CHAT}", _Path(self, CHAT), methods=["POST"]),
            Route(f"{ROOT}{TEXT}", _Path(self, TEXT), methods=["POST"]),
        ]

    def limits(self, model: ModelInfo | None) -> ApiLimits:
        """What one request may ask for; vLLM refuses an answer that is longer than its model's context."""
        settings, context = self.settings, model.context_length if model else None
        return ApiLimits(
            min(settings.api_max_tokens, context or settings.api_max_tokens),
            settings.api_max_choices,
            settings.max_chat_messages,
            settings.max_images_per_chat,
            settings.max_message_chars,
        )

    def refuse(self, request: Request) -> Response | None:
        """Why a request is not answered at all: no key, or a wrong one."""
        host = address_of(request)
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        try:
            self.tries.check(host)
        except LimitError as error:
            return refusal(429, str(error), "rate_limit_error")
        if scheme.lower() == "bearer" and hmac.compare_digest(token.strip().encode(), self.key.encode()):
            return None
        self.tries.count(host)
        sentence = "This API wants its key. Send it as “Authorization: Bearer KEY”."
        response = refusal(401, sentence, "authentication_error")
        response.headers["WWW-Authenticate"] = "Bearer"  # RFC 6750, 3
        return response

    async def _models(self, request: Request) -> Response:
        """The models, as OpenAI's list of them."""
        if (refused := self.refuse(request)) is not None:
            return refused
        told = await self.engine.capabilities()
        rows = [
            {"id": m.id, "object": "model", "owned_by": "sightline", "max_model_len": m.context_length}
            for m in told.models
        ]
        return JSONResponse({"object": "list", "data": rows})


class _Path:
    """One path as an ASGI app: what a request holds is given up when it ends, however it does."""

    def __init__(self, api: Api, path: str) -> None:
        self._api = api
        self._path = path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        response = self._api.refuse(request)
        if response is None:
            try:
                await self._answer(request, send)
                return
            except ClientDisconnect:
                return
            except InputError as error:
                response = refusal(400, str(error))
            except LimitError as error:
                response = refusal(429, str(error), "rate_limit_error")
            except EngineUnavailableError as error:
                response = refusal(503, str(error), "server_error")
            except SightlineError as error:  # a picture
                response = refusal(400, str(error))
        await response(scope, receive, send)

    async def _answer(self, request: Request, send: Send) -> None:
        """Ask vLLM, and pass its answer on.

        Raises:
            SightlineError: it was not asked.
            ClientDisconnect: nobody waits for the answer.
        """
        api, host = self._api, address_of(request)
        model = next(iter((await api.engine.capabilities()).models), None)
        data = await self._read(request)
        body = await run_in_threadpool(read_request, self._path, data, api.limits(model))
        # Each counts as a visitor of its own: clients share the key. What limits them is their address.
        with api.admission.enter(f"api {secrets.token_hex(8)}", host) as ticket:
            gone = asyncio.create_task(_gone(request))
            try:
                relayed = await _unless(gone, self._prepared(ticket.line(), body, host, model))
                async with relayed:
                    head = await _unless(gone, relayed.start())
                    response: Response
                    if head.status >= 500:
                        response = refusal(502, FAILED, "server_error")
                    else:
                        response = StreamingResponse(head.chunks, head.status, media_type=head.media_type)
                    gone.cancel()  # the response looks by itself from here on
                    with suppress(asyncio.CancelledError):
                        await gone
                    await response(request.scope, request.receive, send)
            finally:
                gone.cancel()

    async def _prepared(
        self, line: Any, body: dict[str, Any], host: str | None, model: ModelInfo | None
    ) -> Relayed:
        """The request for vLLM, once it is its turn."""
        api = self._api
        async for _ in line:
            pass
        reader = PictureReader(
            api.fetcher,
            api.pictures,
            lambda count: api.admission.take_pictures(host, count),
            model.vision if model else None,
            address_key(host),
        )
        body = await reader.read(body)
        return await run_in_threadpool(api.engine.relay, f"{ROOT}{self._path}", body)  # some 100 MB of JSON

    async def _read(self, request: Request) -> bytes:
        most = self._api.settings.max_message_mb * MEGA
        body = bytearray()
        async for piece in request.stream():
            body += piece
            if len(body) > most:
                raise InputError(
                    f"The body has more than {self._api.settings.max_message_mb} MB.",
                    "Send smaller or fewer pictures, or raise --max-message-mb.",
                )
        return bytes(body)


async def _gone(request: Request) -> None:
    """Returns when the client has hung up; its body was read before."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _unless(gone: asyncio.Task[None], work: Any) -> Any:
    """What ``work`` gives, unless the client leaves first: then it is cancelled.

    Raises:
        ClientDisconnect: the client left.
    """
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise ClientDisconnect
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError, Exception):
            await task


def refusal(status: int, message: str, kind: str = "invalid_request_error") -> Response:
    """An error in OpenAI's form (API reference, "Error codes")."""
    body = {"error": {"message": message, "type": kind, "param": None, "code": None}}
    return Response(json.dumps(body, ensure_ascii=False), status, media_type="application/json")
