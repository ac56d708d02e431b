"""The one engine: any endpoint that speaks OpenAI's chat completions, over a socket or in memory.

The only module that imports openai. Wire format: OpenAI API reference, "Create chat completion".
"""

import asyncio
import contextlib
import dataclasses
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, aclosing
from typing import Any, cast

import httpx2
import openai
import orjson

from backend import engine_errors, token_count
from backend.answer import MAX_LINE_BYTES, Progress, Seam, read_lines, read_together
from backend.dialect import Dialect, learn, wire_body
from backend.engine_errors import Peer, Refusal
from backend.errors import EngineError
from backend.kept_connections import follow, hung_up_before
from backend.model_list import owner_of_models, read_llamacpp_props, read_models, read_ollama_show
from backend.plain_json import DeepError, read_json
from backend.servers import Origin, Server
from backend.types import (
    Capabilities,
    ChatRequest,
    EngineState,
    Event,
    Finished,
    Image,
    ModelInfo,
    Waiting,
)

CONNECT_TIMEOUT_S = 10.0
LIST_TIMEOUT_S = 10.0  # for the list of models, which the page waits for
MAX_PATIENCE_S = 60.0  # longer than that nobody watches a countdown
MAX_ANSWER_BYTES = 4 * 2**20  # of a list of models, or of an error; a chat is bounded as it streams
OLLAMA_MODELS = 50  # each is asked for by itself
CHAT_PATH = "/chat/completions"
TIMEOUT = httpx2.Timeout(None, connect=CONNECT_TIMEOUT_S)  # what stalls is noticed by what arrives
END_S = 0.05  # in which a body ends whose answer is over: its end nearly always comes with it
# Servers close what has rested for 5 s (uvicorn, and vLLM with it): hardly anything is sent into a connection
# that is being closed. How many there are at once, whoever asks has decided before (admission.py, pace.py).
CONNECTIONS = httpx2.Limits(max_connections=None, max_keepalive_connections=20, keepalive_expiry=4.0)
NO_KEY = "none"  # the SDK insists on one; the client takes it out again
PREFILLING = ("vllm", "sglang")  # whose servers go on with an answer that was begun
DIALECT_STATUS = (400, 422, 500)  # llama.cpp says 500 to what its template does not take
BOM = b"\xef\xbb\xbf"
SSE_FIELDS = (b"data", b"event", b"id", b"retry", b"")  # WHATWG HTML, 9.2; a comment has an empty name
# What a server gets of the headers, where the environment's OPENAI_ variables are not meant for it.
SENT_HEADERS = frozenset(
    {"host", "accept", "accept-encoding", "connection", "user-agent", "authorization"}
    | {"content-type", "content-length", "transfer-encoding"}
)


class OpenAIEngine:
    """An ``Engine`` at a server's base URL (with its ``/v1``).

    ``http_client`` replaces the network, ``idle_timeout_s`` is how long nothing may arrive, ``extra`` are
    fields that are not OpenAI's, for each request, ``dialect`` is what is known of its models beforehand.
    """

    def __init__(
        self,
        server: Server,
        *,
        http_client: httpx2.AsyncClient | None = None,
        idle_timeout_s: float = 300.0,
        extra: Mapping[str, Any] | None = None,
        dialect: Dialect | None = None,
    ) -> None:
        # No retries: once a token was shown, a second try would show it twice.
        self._client = openai.AsyncOpenAI(
            base_url=server.base_url,
            api_key=server.api_key or NO_KEY,
            http_client=http_client or _network_client(server),
            max_retries=0,
            timeout=TIMEOUT,
        )
        self._server = server
        self._peer = Peer(server.name, bool(server.api_key), idle_timeout_s)
        self._idle_timeout_s = idle_timeout_s
        self._extra = extra or {}
        self._dialects: dict[str, Dialect] = {}
        self._first_dialect = dialect or Dialect()  # of a model that was not asked yet

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def capabilities(self) -> Capabilities:
        """What ``GET /models`` tells, and what some servers tell elsewhere. Asks the server each time."""
        try:
            async with asyncio.timeout(LIST_TIMEOUT_S):
                answer = await self._json("GET", "/models")
                prefills = owner_of_models(answer) in PREFILLING
                self._first_dialect = dataclasses.replace(self._first_dialect, prefills=prefills)
                models = await self._described(read_models(answer, self._server.name), answer)
        except (openai.OpenAIError, httpx2.HTTPError, ValueError, TimeoutError) as error:
            told = self._list_error(error)
            return Capabilities(EngineState.FAILED, stage=told.what, action=told.action)
        return Capabilities(EngineState.READY, models=models)

    async def _json(self, method: str, path: str, body: object = None) -> Any:
        call = self._client.get if method == "GET" else self._client.post
        extra: dict[str, Any] = {} if body is None else {"body": body}
        response = await call(path, cast_to=httpx2.Response, **extra)
        return read_json(response.content)

    async def _described(self, models: tuple[ModelInfo, ...], answer: object) -> tuple[ModelInfo, ...]:
        """The models with what their server tells of them in its own ways."""
        root = self._server.base_url.removesuffix("/v1")
        match owner_of_models(answer):
            case "llamacpp":
                with contextlib.suppress(openai.OpenAIError, ValueError):
                    known = read_llamacpp_props(await self._json("GET", f"{root}/props"))
                    return tuple(dataclasses.replace(model, **known) for model in models)
            case "library":
                asked = (self._shown_by_ollama(root, model) for model in models[:OLLAMA_MODELS])
                return (*await asyncio.gather(*asked), *models[OLLAMA_MODELS:])
        return models

    async def _shown_by_ollama(self, root: str, model: ModelInfo) -> ModelInfo:
        with contextlib.suppress(openai.OpenAIError, ValueError):
            known = read_ollama_show(await self._json("POST", f"{root}/api/show", {"model": model.id}))
            return dataclasses.replace(model, **known)
        return model

    def _list_error(self, error: Exception) -> EngineError:
        match error:
            case openai.APIStatusError():
                return engine_errors.refused(_refusal(error), self._peer)
            case openai.APIConnectionError() | TimeoutError():
                return engine_errors.connection_error(error, self._peer)
            case _:
                return engine_errors.wrong_content("", self._peer)

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Event, None]:
        """See ``Engine.stream``. A server that is busy (429) is asked once more, after ``Waiting``."""
        started = time.monotonic()
        model, prompt = request.model, token_count.outline(request.messages)
        patient, dialect = True, self._dialects.get(model, self._first_dialect)
        cut = request.messages[-1] if request.continues else None
        async with AsyncExitStack() as stack:
            while True:
                body, data = await _encoded(request, dialect, self._extra)
                try:
                    response = await self._open(stack, data, request.on_sent)
                    break
                except openai.APIStatusError as error:
                    refusal = _refusal(error)
                    if learned := _learned(dialect, refusal, body):
                        dialect = learned
                        continue
                    self._dialects.pop(model, None)  # it may be another server by now: learn it anew
                    if not (patient and refusal.is_busy):
                        raise engine_errors.refused(refusal, self._peer) from error
                    seconds = refusal.retry_after_s
                    if seconds > MAX_PATIENCE_S:
                        raise engine_errors.too_long(seconds, self._peer) from error
                patient = False
                yield Waiting(seconds)
                await asyncio.sleep(seconds)
            self._dialects[model] = dialect  # only what helped: a refusal may name a field by chance
            ignored = dialect.ignored(request.sampling)
            progress = Progress(started, self._peer)
            seam = Seam(cut, dialect.prefills) if cut is not None else None
            del body, data, request  # with their pictures, which nobody needs while the answer streams
            async with aclosing(self._read(response, progress)) as events:
                async for event in events:
                    yield event if seam is None else seam.join(event)
        stats = progress.stats(may_be_empty=seam is not None)  # what was cut may have been whole
        if stats.completion_tokens is None:
            counts = await asyncio.to_thread(token_count.estimate, model, prompt, progress.written)
            stats = dataclasses.replace(
                stats, prompt_tokens=counts[0], completion_tokens=counts[1], estimated=True
            )
        yield Finished(dataclasses.replace(stats, ignored=ignored))

    async def _open(self, stack: AsyncExitStack, data: bytes, on_sent: Callable[[], None]) -> httpx2.Response:
        """The response to this body once its headers are there.

        Raises:
            openai.APIStatusError: the server refused.
            EngineError: there is no server, or it does not begin.
        """
        try:
            response = await self._begin(self._client, data, on_sent)
        except (openai.APIConnectionError, httpx2.HTTPError) as error:
            cause = error.__cause__ if isinstance(error, openai.APIConnectionError) else error
            if not hung_up_before(error.request, cause):
                raise engine_errors.connection_error(error, self._peer) from error
            # Nothing of an answer was shown. Another connection that was kept may be as old as that one.
            fresh = self._client.with_options(http_client=_network_client(self._server))
            stack.push_async_callback(fresh.close)
            try:
                response = await self._begin(fresh, data, on_sent)
            except (openai.APIConnectionError, httpx2.HTTPError) as again:
                raise engine_errors.connection_error(again, self._peer) from again
        stack.push_async_callback(response.aclose)
        return response

    async def _begin(
        self, client: openai.AsyncOpenAI, data: bytes, on_sent: Callable[[], None]
    ) -> httpx2.Response:
        # The SDK sends it and names the errors. It is not given the fields: of each picture it would look
        # through all types of a part, and write them all down on the event loop. Nor is it asked for its
        # stream, which builds a model of every chunk: ten times what reading its JSON costs, in a process
        # where vLLM's server needs the time.
        opening = client.post(
            CHAT_PATH,
            cast_to=httpx2.Response,
            content=_told(data, on_sent),
            options={"headers": {"Content-Length": str(len(data))}},
            stream=True,
            stream_cls=openai.AsyncStream[Any],
        )
        try:
            async with asyncio.timeout(self._idle_timeout_s):
                return cast(httpx2.Response, await opening)
        except TimeoutError as error:
            raise engine_errors.stalled(self._peer, begun=False) from error

    async def _read(self, response: httpx2.Response, progress: Progress) -> AsyncGenerator[Event, None]:
        """The events of an answer that has begun.

        What comes are server-sent events (WHATWG HTML, 9.2); servers of this API write each into one line.
        """
        begun = False
        try:
            clock = asyncio.get_running_loop().time
            last = clock()  # when the answer last grew: comments that keep a connection alive are no answer
            async with aclosing(read_lines(response.aiter_bytes())) as lines:
                with read_together(response.extensions.get("network_stream")):
                    while True:
                        async with asyncio.timeout_at(last + self._idle_timeout_s):
                            line = await anext(lines, None)
                        if line is None:
                            break
                        name, _, data = line.removeprefix(BOM).partition(b":")
                        if not begun and line.strip() and name not in SSE_FIELDS:
                            data = await self._whole(line, lines, response)  # the server does not stream
                        elif name != b"data":  # a comment that keeps the connection alive
                            continue
                        begun = True
                        if data.strip() == b"[DONE]":
                            break
                        for event in progress.take(read_json(data)):
                            last = clock()
                            yield event
                progress.end()
                # At its end the connection is another's at once, and that is to find it as it was.
                await _read_out(lines)
        except TimeoutError as error:
            raise engine_errors.stalled(self._peer, begun=progress.has_begun) from error
        except ValueError as error:  # no JSON, or no text
            raise engine_errors.unreadable(self._peer, begun=progress.has_begun) from error
        except (openai.OpenAIError, httpx2.HTTPError) as error:
            if not progress.is_whole:
                raise engine_errors.lost(self._peer, begun=progress.has_begun) from error

    async def _whole(self, line: bytes, lines: AsyncIterator[bytes], response: httpx2.Response) -> bytes:
        """The rest of a body that is one JSON object.

        Raises:
            NoChatServerError: it is none.
        """
        wrong = engine_errors.wrong_content(response.headers.get("content-type", ""), self._peer)
        if not line.lstrip().startswith(b"{"):
            raise wrong
        async with asyncio.timeout(self._idle_timeout_s):
            whole = bytearray(line)
            async for more in lines:
                whole += b"\n" + more
                if len(whole) > MAX_LINE_BYTES:
                    raise wrong
        if b'"choices"' not in whole and b'"error"' not in whole:
            raise wrong
        return bytes(whole)


async def _told(data: bytes, on_sent: Callable[[], None]) -> AsyncGenerator[bytes, None]:
    """A body that tells when it has been sent."""
    yield data
    on_sent()


async def _read_out(lines: AsyncIterator[bytes]) -> None:
    """Read the body to its end: only then its connection is used again."""
    with contextlib.suppress(TimeoutError, ValueError, httpx2.HTTPError):
        async with asyncio.timeout(END_S):
            async for _ in lines:
                pass


async def _encoded(
    request: ChatRequest, dialect: Dialect, extra: Mapping[str, Any]
) -> tuple[dict[str, Any], bytes]:
    """The request, and its JSON with the ``extra`` fields; in a thread where there are pictures to encode.

    Raises:
        RejectedError: it holds what that JSON cannot.
    """

    def encode() -> tuple[dict[str, Any], bytes]:
        body = wire_body(request, dialect)
        try:
            return body, orjson.dumps({**body, **extra})
        except orjson.JSONEncodeError as error:  # what was kept before it was refused where it comes in
            raise engine_errors.unsendable() from error

    if any(isinstance(part, Image) for message in request.messages for part in message.parts):
        return await asyncio.to_thread(encode)
    return encode()


def _refusal(error: openai.APIStatusError) -> Refusal:
    headers = error.response.headers
    return Refusal(
        error.status_code,
        engine_errors.message_of(error.body)[: engine_errors.MAX_MESSAGE],
        error.code,
        error.param if isinstance(error.param, str) else None,
        headers.get("content-type", ""),
        headers.get("retry-after", ""),
    )


def _learned(dialect: Dialect, refusal: Refusal, body: dict[str, Any]) -> Dialect | None:
    """Another dialect that may be taken, where the refusal shows one."""
    if refusal.status not in DIALECT_STATUS:
        return None
    learned = learn(dialect, refusal.message, refusal.param, body)
    return None if learned == dialect else learned


def _network_client(server: Server) -> httpx2.AsyncClient:
    """A client that follows no redirect, so that neither key nor pictures go where they were not sent."""
    hooks: dict[str, list[Callable[..., Any]]] = {
        "request": [_header_hook(server), follow],
        "response": [_bound],
    }
    return httpx2.AsyncClient(timeout=TIMEOUT, limits=CONNECTIONS, follow_redirects=False, event_hooks=hooks)


async def _bound(response: httpx2.Response) -> None:
    """Read what is no chat here, as far as it may be read: the SDK would take all that comes.

    Too much of it, or what nests too deeply, is as good as nothing; the status still counts.
    """
    if response.status_code == 200 and response.request.url.path.endswith(CHAT_PATH):
        return
    answer = httpx2.Response(response.status_code, headers=response.headers, stream=response.stream)
    data = bytearray()
    async with aclosing(answer.aiter_bytes()) as parts:  # decompressed, by a megabyte at a time
        async for part in parts:
            data += part
            if len(data) > MAX_ANSWER_BYTES:
                data.clear()
                break
    await answer.aclose()
    with contextlib.suppress(ValueError):
        try:
            read_json(bytes(data))
        except DeepError:
            data.clear()
    response.headers.pop("content-encoding", None)
    response.stream = httpx2.ByteStream(bytes(data))


def _header_hook(server: Server) -> Callable[[httpx2.Request], Awaitable[None]]:
    """Takes out of each request what its server is not to get: the last thing before it is sent."""
    allowed: Origin = server.origin

    async def take_out(request: httpx2.Request) -> None:
        asked = request.url
        same = (asked.scheme, asked.host, asked.port or {"http": 80, "https": 443}[asked.scheme]) == allowed
        request.headers.pop("authorization", None)  # the environment's OPENAI_CUSTOM_HEADERS may hold one
        if same and server.api_key:
            request.headers["authorization"] = f"Bearer {server.api_key}"
        if not (same and server.takes_environment):
            for name in set(request.headers) - SENT_HEADERS:
                del request.headers[name]

    return take_out
