"""One question from the command line: read it, ask, and print the answer as it comes."""

import asyncio
import difflib
import json
import shutil
import unicodedata
from collections.abc import AsyncGenerator, Callable, Collection, Coroutine, Sequence
from contextlib import aclosing, asynccontextmanager, closing, suppress
from dataclasses import asdict, dataclass
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any, TextIO

from backend.catalogue.download import with_time
from backend.config import Settings
from backend.errors import ConfigError, EngineDiedError, EngineError, EngineUnavailableError
from backend.fetch import Fetcher
from backend.inprocess import STOP_TIMEOUT_S, InProcessEngine
from backend.picture_pool import PicturePool
from backend.question import Reader
from backend.router import Router
from backend.start import NEAR, StartPlan
from backend.types import (
    ChatRequest,
    Detail,
    EngineState,
    Finished,
    Message,
    ModelInfo,
    ReasoningDelta,
    Sampling,
    Stats,
    Text,
    TextDelta,
    Waiting,
)
from backend.vllm_args import EnginePlan
from backend.vllm_log import prepare_log

FORMATS = {
    "mistral": ("--tokenizer-mode", "mistral", "--config-format", "mistral", "--load-format", "mistral"),
    "hf": ("--tokenizer-mode", "auto", "--config-format", "auto", "--load-format", "auto"),
}
NO_CACHE = ("--mm-processor-cache-gb", "0")
FROM_PIPE = "-"
IN_OTHER_WORDS = (
    *(("Press Retry", "Ask again"), ("press Retry", "ask again")),
    *(("in the settings", "with --model"), ("Max tokens", "--max-tokens")),
    ("; the app finds it by itself", ""),
)
LOOK_EVERY_S = 0.5
MODELS_NAMED = 10
CHECK_SERVER = "Check that it runs, its address in --base-url, and its key in OPENAI_API_KEY."


@dataclass(frozen=True, slots=True)
class Question:
    """What to ask: ``words`` are a prompt and the places of its pictures, or ``file`` is a whole chat."""

    words: tuple[str, ...]
    file: Path | None
    sampling: Sampling
    detail: Detail = Detail.AUTO


def engine_flags(plan: StartPlan, model_format: str | None, disable_cache: bool) -> tuple[str, ...]:
    """The documents' short flags as vLLM's own (vLLM, examples/offline_inference/mistral-small.py).

    Raises:
        ConfigError: there is one, and by ``plan`` no model is loaded into this process.
    """
    flags = (*(FORMATS[model_format] if model_format else ()), *(NO_CACHE if disable_cache else ()))
    if flags and plan.engine is None:
        raise ConfigError(
            f"{'--format' if model_format else '--disable-mm-processor-cache'} is for a model that is loaded "
            "into this process, and a server was named.",
            "Leave it out; or take away --base-url and OPENAI_BASE_URL.",
        )
    return flags


def split_words(words: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What stands before the first flag that is not ours, and the rest, which is vLLM's."""
    flags = (n for n, word in enumerate(words) if word.startswith("-") and word != FROM_PIPE)
    first = next(flags, len(words))
    return tuple(words[:first]), tuple(words[first:])


def read_prompt(word: str, pipe: TextIO) -> str:
    """The prompt as it was written, or what comes through the pipe where that is ``-``.

    Raises:
        ConfigError: what comes is no text.
    """
    if word != FROM_PIPE:
        return word
    try:
        return pipe.read().strip()
    except UnicodeDecodeError as error:
        raise ConfigError("What was piped in is no text.", "Pictures are named after the prompt.") from error


class Printer:
    """Shows an answer as it comes: the text on ``out``, all else on ``err``, where a person looks on."""

    def __init__(self, out: TextIO, err: TextIO, *, as_json: bool) -> None:
        self._out = out
        self._err = err
        self._as_json = as_json
        self._written = ""
        self._line = ""

    def note(self, text: str) -> None:
        """A line that stays."""
        self.progress("")
        self._err.write(f"{text}\n")
        self._err.flush()

    def progress(self, text: str) -> None:
        """One line that is written over; only on a terminal, and before the answer begins."""
        if not self._err.isatty() or text == self._line or self._written:
            return
        self._line = text
        self._err.write(f"\r\x1b[K{text[: shutil.get_terminal_size().columns - 1]}")
        self._err.flush()

    def text(self, text: str) -> None:
        """The next piece of the answer."""
        if not self._as_json:
            self._write(_plain(text) if self._out.isatty() else text)

    def end(self, model: str, text: str, reasoning: str, stats: Stats, error: str = "") -> None:
        """What there is to say once the answer has ended, well or with an ``error``."""
        if self._as_json:
            figures = {**asdict(stats), "tokens_per_second": stats.tokens_per_second}
            told = {"model": model, "text": text, "reasoning": reasoning, **figures, "error": error or None}
            self._write(json.dumps(told, ensure_ascii=False))
        self.close()
        if stats.finish_reason == "length":
            self.note("The answer was cut at its longest length: --max-tokens, or the end of the context.")
        if stats.ignored:
            self.note(f"The model takes no {stats.ignored}; it was left out.")

    def close(self) -> None:
        """Leave the terminal at the beginning of a line, whatever has come."""
        self.progress("")
        if self._written and not self._written.endswith("\n"):
            self._write("\n")

    def _write(self, text: str) -> None:
        self.progress("")
        self._written = text or self._written
        self._out.write(text)
        self._out.flush()


def _plain(text: str) -> str:
    """Without the signs by which a model could move a terminal's cursor, or write to its clipboard."""
    return "".join(sign for sign in text if sign in "\n\t" or unicodedata.category(sign) != "Cc")


async def run(settings: Settings, plan: StartPlan, question: Question, printer: Printer) -> None:
    """Answer one question, with an engine of its own or a server's.

    Raises:
        SightlineError: the question cannot be read, there is no such model, or no answer came.
    """
    with closing(PicturePool(settings.image_limits, settings.decoder_limits)) as pictures:
        reader = Reader(
            Fetcher(settings.fetch_limits), pictures, printer.progress, printer.note, question.detail
        )
        if question.file is not None:
            messages = await reader.chat(question.file)
        else:
            messages = await reader.question(question.words)
    if settings.system_prompt and messages[0].role != "system":
        messages = (Message("system", (Text(settings.system_prompt),)), *messages)
    try:
        async with own_engine(plan.engine, settings, printer) as engine:
            router = Router(engine, plan.servers, settings.idle_timeout_s, plan.corrections)
            try:
                model = await choose(router, None if engine else settings.model, printer)
                await ask(router, ChatRequest(model, messages, question.sampling), printer)
            finally:
                await router.aclose()
    finally:
        printer.close()


@asynccontextmanager
async def own_engine(
    plan: EnginePlan | None,
    settings: Settings,
    printer: Printer,
    spared: Callable[[], Collection[int]] = frozenset,
) -> AsyncGenerator[InProcessEngine | None, None]:
    """vLLM in this process for as long as it is asked; none without a plan.

    Its end spares those of this process's children that ``spared`` names.
    """
    if plan is None:
        yield None
        return
    for notice in plan.notices:
        printer.note(notice)
    try:
        log = prepare_log(settings.data_dir / "logs" / "ask")
    except OSError as error:
        raise ConfigError(
            "The data folder cannot be written.", "Choose another with --data-dir, or free some space on it."
        ) from error
    engine = InProcessEngine(plan, log, idle_timeout_s=settings.idle_timeout_s, spared=spared)
    # Here, since it lets Ctrl-C through to what its own thread starts (CPython 3.11), which is not to get it.
    resource_tracker.ensure_running()
    engine.start()
    patience_s = STOP_TIMEOUT_S
    try:
        yield engine
    except asyncio.CancelledError:  # Ctrl-C
        if engine.state is EngineState.LOADING:  # which cannot be broken off, only left
            patience_s = 0.0
        raise
    except EngineDiedError as error:  # the next one, which is being started, is not waited for
        raise EngineDiedError(error.what, f"Ask again. What vLLM wrote is in {log}") from error
    except EngineError as error:
        if engine.state is not EngineState.FAILED:
            raise
        raise type(error)(error.what, f"{error.action} What vLLM wrote is in {log}") from error
    finally:
        printer.close()
        await asyncio.to_thread(engine.stop, patience_s)


async def choose(router: Router, wanted: str | None, printer: Printer) -> str:
    """The menu's name of the model to ask: ``wanted``, or the first.

    Raises:
        ConfigError: there is no such model.
        EngineUnavailableError: there is none at all.
    """
    now = await router.capabilities()
    while router.is_waiting:
        printer.progress("Asking which models there are …")
        now = await router.capabilities()
    if not now.models:
        what, action = now.stage or "No server offers a model.", now.action or CHECK_SERVER
        raise _for_terminal(EngineUnavailableError(what, action))
    if wanted is None:
        return now.models[0].name
    if found := await router.find(wanted):
        return found[1].name
    return _by_last_part(wanted, now.models)


def _by_last_part(wanted: str, models: Sequence[ModelInfo]) -> str:
    """The one model whose id ends like this: of a path or an owner's id nobody types the beginning.

    Raises:
        ConfigError: there is none, or several; names those that may be meant.
    """
    ends = [model.name for model in models if wanted in (model.id, _last_part(model))]
    if len(ends) == 1:
        return ends[0]
    if ends:
        raise ConfigError(
            f"Several models are called “{wanted}”.", _plain(f"Name one of: {', '.join(ends)}.")
        )
    spellings = {spelt: model.name for model in models for spelt in (model.id, _last_part(model))}
    if near := difflib.get_close_matches(wanted, spellings, n=1, cutoff=NEAR):
        action = f"Did you mean {spellings[near[0]]}?"
    else:
        more = ", …" if len(models) > MODELS_NAMED else "."
        action = f"There are: {', '.join(model.name for model in models[:MODELS_NAMED])}{more}"
    raise ConfigError(f"No model is called “{wanted}”.", _plain(action))


def _last_part(model: ModelInfo) -> str:
    return model.id.rpartition("/")[2]


async def ask(router: Router, request: ChatRequest, printer: Printer) -> None:
    """Ask, and print the answer as it comes; while the model loads, how far it is.

    Raises:
        EngineError: no answer came, or it broke off; what had come is printed.
    """
    text, reasoning = "", ""
    try:
        async with (
            _telling(_loading(router, request.model, printer)),
            aclosing(router.stream(request)) as events,
        ):
            async for event in events:
                match event:
                    case TextDelta(piece):
                        text += piece
                        printer.text(piece)
                    case ReasoningDelta(piece):
                        reasoning += piece
                        printer.progress("Thinking …")
                    case Waiting(seconds):
                        printer.progress(f"The server is busy. Trying again in {seconds:.0f} s.")
                    case Finished(stats):
                        printer.end(request.model, text, reasoning, stats)
    except EngineError as error:
        told = _for_terminal(error)
        printer.end(request.model, text, reasoning, Stats("interrupted"), str(told))
        raise told from error


def _for_terminal(error: EngineError) -> EngineError:
    """The same, where there is no page with a button and settings."""
    return type(error)(error.what, in_other_words(error.action))


def in_other_words(text: str) -> str:
    """What the page's sentences say, where there is no page."""
    for on_page, here in IN_OTHER_WORDS:
        text = text.replace(on_page, here)
    return text


async def _loading(router: Router, model: str, printer: Printer) -> None:
    while (now := await router.capabilities_of(model)).state is EngineState.LOADING:
        printer.progress(f"Loading {model}: {with_time(now.stage, now.state_s)}")
        await asyncio.sleep(LOOK_EVERY_S)
    printer.progress("Waiting for the answer …")


@asynccontextmanager
async def _telling(story: Coroutine[Any, Any, None]) -> AsyncGenerator[None, None]:
    """Let something be told beside what is done here."""
    task = asyncio.create_task(story)
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
