"""One question from the command line: what is read, whom it asks, and what stands in the terminal."""

import asyncio
import base64
import io
import json
import sys
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing
from pathlib import Path

import pytest
from e2e.drawings import BLUE_SQUARE, RED_CIRCLE
from e2e.website import Website, serve_website
from fake_engine import STATS, FakeEngine
from fault_plays import ANSWER, TEXT
from fault_server import Call, FaultServer, serve

import app
from backend import asking
from backend.asking import Printer, Question
from backend.config import Settings
from backend.errors import (
    ConfigError,
    EngineDiedError,
    EngineError,
    EngineUnavailableError,
    FetchError,
    ImageError,
    InterruptedStreamError,
    RejectedError,
    UnknownModelError,
)
from backend.fetch import Fetcher
from backend.inprocess import STOP_TIMEOUT_S
from backend.picture_pool import PicturePool
from backend.question import Reader
from backend.router import Router
from backend.servers import Server
from backend.start import StartPlan
from backend.types import (
    Capabilities,
    ChatRequest,
    EngineState,
    Event,
    Finished,
    Image,
    Message,
    ModelInfo,
    ReasoningDelta,
    Sampling,
    Stats,
    Text,
    Waiting,
)
from backend.vllm_args import plan_engine

ADVANCED = Path(app.__file__).parent / "assets" / "demos" / "advanced.json"
MODEL = "fake-model"
REQUEST = ChatRequest(MODEL, (Message("user", (Text("Hello!"),)),))
SERVER_ONLY = StartPlan(None, (Server("lab", "http://127.0.0.1:1/v1"),))
OWN_MODEL = StartPlan(plan_engine(None, ()), ())
CLEAR = "\r\x1b[K"
HELLO = Question(("Hello!",), None, Sampling())


class Terminal(io.StringIO):
    """Where a person looks on."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def out() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def err() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def printer(out: io.StringIO, err: io.StringIO) -> Printer:
    return Printer(out, err, as_json=False)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """One of 80 columns."""
    monkeypatch.setenv("COLUMNS", "80")
    return Terminal()


@pytest.fixture
def router(engine: FakeEngine) -> Router:
    return Router(engine)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    (tmp_path / "circle.png").write_bytes(RED_CIRCLE)
    (tmp_path / "square.png").write_bytes(BLUE_SQUARE)
    return tmp_path


@pytest.fixture
def website() -> Iterator[Website]:
    with serve_website() as site:
        yield site


@pytest.fixture
def open_settings(settings: Settings) -> Settings:
    """So that a site on loopback may be asked."""
    return settings.model_copy(update={"allow_private_addresses": True})


def shape(message: Message) -> tuple[str, ...]:
    """Its role, its words, and the names of its pictures."""
    return (message.role, *(part.name if isinstance(part, Image) else part.text for part in message.parts))


# What stands on the command line.


@pytest.mark.parametrize(
    ("words", "ours", "vllms"),
    [
        ([], (), ()),
        (["What?"], ("What?",), ()),
        (["What?", "a.jpg", "b.jpg"], ("What?", "a.jpg", "b.jpg"), ()),
        (["What?", "a.jpg", "--max-model-len", "2048"], ("What?", "a.jpg"), ("--max-model-len", "2048")),
        (["-", "a.jpg", "-O3"], ("-", "a.jpg"), ("-O3",)),
        (["--max-model-len", "2048"], (), ("--max-model-len", "2048")),
    ],
)
def test_words_stand_before_the_flags_for_vllm(
    words: list[str], ours: tuple[str, ...], vllms: tuple[str, ...]
) -> None:
    assert asking.split_words(words) == (ours, vllms)


@pytest.mark.parametrize(
    ("model_format", "disable_cache", "flags"),
    [
        (None, False, ()),
        (None, True, ("--mm-processor-cache-gb", "0")),
        (
            "mistral",
            False,
            ("--tokenizer-mode", "mistral", "--config-format", "mistral", "--load-format", "mistral"),
        ),
        (
            "hf",
            True,
            (
                *("--tokenizer-mode", "auto", "--config-format", "auto", "--load-format", "auto"),
                *("--mm-processor-cache-gb", "0"),
            ),
        ),
    ],
)
def test_the_documents_short_flags_are_vllms(
    model_format: str | None, disable_cache: bool, flags: tuple[str, ...]
) -> None:
    assert asking.engine_flags(OWN_MODEL, model_format, disable_cache) == flags


def test_a_short_flag_is_named_as_it_was_written_where_no_model_is_loaded() -> None:
    for arguments, name in ((("hf", False), "--format"), ((None, True), "--disable-mm-processor-cache")):
        with pytest.raises(ConfigError, match=f"^{name} is for a model that is loaded"):
            asking.engine_flags(SERVER_ONLY, *arguments)
    assert asking.engine_flags(SERVER_ONLY, None, False) == ()


def test_a_prompt_may_come_through_a_pipe() -> None:
    pipe = io.StringIO("Describe this image.\n")
    assert asking.read_prompt("What?", pipe) == "What?"
    assert pipe.tell() == 0
    assert asking.read_prompt("-", pipe) == "Describe this image."


def test_a_picture_in_the_pipe_is_no_prompt() -> None:
    with pytest.raises(ConfigError, match="What was piped in is no text"):
        asking.read_prompt("-", io.TextIOWrapper(io.BytesIO(RED_CIRCLE), encoding="utf-8"))


# A question and its pictures.


def reader(settings: Settings, pool: PicturePool, printer: Printer) -> Reader:
    return Reader(Fetcher(settings.fetch_limits), pool, printer.progress, printer.note)


async def test_a_question_has_its_words_first_as_in_the_documents(
    settings: Settings, pool: PicturePool, printer: Printer, pictures: Path
) -> None:
    words = ("What is this?", str(pictures / "circle.png"), str(pictures / "square.png"))
    [message] = await reader(settings, pool, printer).question(words)
    assert shape(message) == ("user", "What is this?", "circle.png", "square.png")


async def test_pictures_may_be_asked_about_without_a_word(
    settings: Settings, pool: PicturePool, printer: Printer, pictures: Path
) -> None:
    [message] = await reader(settings, pool, printer).question(("", str(pictures / "circle.png")))
    assert shape(message) == ("user", "circle.png")


@pytest.mark.parametrize("prompt", ["", " \n"])
async def test_nothing_at_all_is_no_question(
    settings: Settings, pool: PicturePool, printer: Printer, prompt: str
) -> None:
    with pytest.raises(ConfigError, match="The question is empty"):
        await reader(settings, pool, printer).question((prompt,))


async def test_a_picture_by_address_is_fetched(
    open_settings: Settings, pool: PicturePool, terminal: Terminal, website: Website
) -> None:
    address = f"{website.url}/square.png?token=secret"
    words = ("What?", f"{website.url}/circle.png", address.replace("square", "triangle"))
    with pytest.raises(FetchError, match="leads nowhere"):  # the site knows no query
        await reader(open_settings, pool, Printer(io.StringIO(), terminal, as_json=False)).question(words)
    assert website.asked == ["/circle.png", "/triangle.png?token=secret"]
    assert f"{CLEAR}Fetching {website.url}/circle.png …" in terminal.getvalue()
    assert "secret" not in terminal.getvalue()


async def test_private_addresses_are_not_fetched_unasked(
    settings: Settings, pool: PicturePool, printer: Printer, website: Website
) -> None:
    with pytest.raises(FetchError):
        await reader(settings, pool, printer).question(("What?", f"{website.url}/circle.png"))
    assert website.asked == []


@pytest.mark.parametrize("place", ["absent.jpg", ".", "~nobody-of-this-name/a.jpg", "nul\0.jpg"])
async def test_a_picture_that_is_not_there_is_named(
    settings: Settings, pool: PicturePool, printer: Printer, place: str
) -> None:
    with pytest.raises(ImageError) as refused:
        await reader(settings, pool, printer).question(("What?", place))
    assert refused.value.what == f"“{place}” cannot be read."


async def test_a_file_that_is_no_picture_is_refused(
    settings: Settings, pool: PicturePool, printer: Printer, tmp_path: Path
) -> None:
    (tmp_path / "notes.jpg").write_text("no picture")
    with pytest.raises(ImageError, match=r"notes\.jpg"):
        await reader(settings, pool, printer).question(("What?", str(tmp_path / "notes.jpg")))


async def test_a_picture_that_is_too_large_is_not_read_to_its_end(
    settings: Settings, pool: PicturePool, printer: Printer
) -> None:
    with pytest.raises(ImageError, match="zero"):
        await reader(settings, pool, printer).question(("What?", "/dev/zero"))


# A whole chat in a file.


def chat_file(folder: Path, chat: object) -> Path:
    file = folder / "chat.json"
    file.write_text(chat if isinstance(chat, str) else json.dumps(chat), encoding="utf-8")
    return file


async def test_a_chat_is_read_with_its_roles_and_parts(
    open_settings: Settings, pool: PicturePool, printer: Printer, pictures: Path, website: Website
) -> None:
    data_url = f"data:image/png;base64,{base64.b64encode(RED_CIRCLE).decode()}"
    chat = [
        {"role": "system", "content": "Be brief."},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "What are these?"},
                {"type": "image_url", "image_url": {"url": "square.png"}},
                {"type": "image_url", "image_url": {"url": data_url, "detail": "low"}},
                {"type": "image_url", "image_url": f"{website.url}/triangle.png"},
            ],
        },
        {"role": "assistant", "content": "Shapes.", "name": "somebody"},
        {"role": "user", "content": "And their colours?"},
    ]
    messages = await reader(open_settings, pool, printer).chat(chat_file(pictures, chat))
    assert [shape(message) for message in messages] == [
        ("system", "Be brief."),
        ("user", "What are these?", "square.png", "picture", "triangle.png"),
        ("assistant", "Shapes."),
        ("user", "And their colours?"),
    ]
    assert website.asked == ["/triangle.png"]


async def test_the_advanced_demo_is_the_documents(
    open_settings: Settings, pool: PicturePool, printer: Printer, website: Website, tmp_path: Path
) -> None:
    chat = json.loads(ADVANCED.read_text(encoding="utf-8"))
    parts = [part for message in chat if isinstance(message["content"], list) for part in message["content"]]
    addresses = [part["image_url"] for part in parts if part["type"] == "image_url"]
    assert [address["url"] for address in addresses] == [
        "https://huggingface.co/datasets/patrickvonplaten/random_img/resolve/main/yosemite.png",
        "https://picsum.photos/seed/picsum/200/300",
        "https://picsum.photos/id/32/512/512",
    ]
    for address in addresses:
        address["url"] = f"{website.url}/circle.png"
    messages = await reader(open_settings, pool, printer).chat(chat_file(tmp_path, chat))
    assert [(message.role, len(shape(message)) - 1) for message in messages] == [
        ("system", 1),
        ("user", 3),
        ("assistant", 1),
        ("user", 1),
        ("user", 1),
    ]


@pytest.mark.parametrize(
    "chat",
    [
        "no json",
        "[" * 100_000,
        42,
        {"role": "user", "content": "Hello!"},
        ["Hello!"],
        [{"content": "Hello!"}],
        [{"role": "tool", "content": "Hello!"}],
        [{"role": "user"}],
        [{"role": "user", "content": None}],
        [{"role": "user", "content": [{"type": "text"}]}],
        [{"role": "user", "content": [{"type": "text", "text": ["Hello!"]}]}],
        [{"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}],
        [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}],
        [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": 7}}]}],
        [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png,%89"}}]}],
    ],
    ids=lambda chat: str(chat)[:60],
)
async def test_what_is_no_chat_is_told_how_one_looks(
    settings: Settings, pool: PicturePool, printer: Printer, tmp_path: Path, chat: object
) -> None:
    with pytest.raises(ConfigError) as refused:
        await reader(settings, pool, printer).chat(chat_file(tmp_path, chat))
    assert refused.value.what == "The file “chat.json” is no list of chat messages."
    assert str(tmp_path) not in str(refused.value)


@pytest.mark.parametrize(
    "chat", [[], [{"role": "user", "content": "Hello!"}, {"role": "assistant", "content": "Hello."}]]
)
async def test_a_chat_ends_with_a_question(
    settings: Settings, pool: PicturePool, printer: Printer, tmp_path: Path, chat: object
) -> None:
    with pytest.raises(ConfigError, match="does not end with a question"):
        await reader(settings, pool, printer).chat(chat_file(tmp_path, chat))


@pytest.mark.parametrize("contents", [None, b"\xff\xfe[]"], ids=["absent", "no text"])
async def test_a_file_that_cannot_be_read(
    settings: Settings, pool: PicturePool, printer: Printer, tmp_path: Path, contents: bytes | None
) -> None:
    if contents is not None:
        (tmp_path / "chat.json").write_bytes(contents)
    with pytest.raises(ConfigError, match=r"The file “chat\.json” cannot be read"):
        await reader(settings, pool, printer).chat(tmp_path / "chat.json")


async def test_a_picture_of_a_chat_that_is_not_there(
    settings: Settings, pool: PicturePool, printer: Printer, tmp_path: Path
) -> None:
    part = {"type": "image_url", "image_url": {"url": "absent.png"}}
    chat = chat_file(tmp_path, [{"role": "user", "content": [part]}])
    with pytest.raises(ImageError, match=r"absent\.png” cannot be read"):
        await reader(settings, pool, printer).chat(chat)


# Which model.


async def test_without_a_name_the_first_model_is_asked(
    router: Router, engine: FakeEngine, printer: Printer
) -> None:
    engine.state = Capabilities(EngineState.LOADING, models=(ModelInfo("one"), ModelInfo("two")))
    assert await asking.choose(router, None, printer) == "one"


async def test_a_model_is_named_as_its_server_or_the_menu_calls_it(printer: Printer) -> None:
    with serve({"plain": ANSWER, "other": ANSWER}) as lab:
        async with aclosing(Router(None, [Server("lab", lab.url)])) as router:
            for name in ("other", "other @ lab"):
                assert await asking.choose(router, name, printer) == "other @ lab"
            with pytest.raises(ConfigError) as refused:
                await asking.choose(router, "third", printer)
    assert "“third”" in refused.value.what
    assert refused.value.action.startswith("There are: ")
    assert "plain @ lab" in refused.value.action


async def test_the_last_part_of_a_path_names_a_model_where_only_one_ends_so(
    router: Router, engine: FakeEngine, printer: Printer
) -> None:
    ids = ("/srv/models/demo-model", "owner/small", "other/small", "small-2")
    engine.state = Capabilities(EngineState.READY, models=tuple(map(ModelInfo, ids)))

    assert await asking.choose(router, "demo-model", printer) == "/srv/models/demo-model"
    assert await asking.choose(router, "small-2", printer) == "small-2"
    for wanted, told in (
        ("small", "Several models are called “small”. Name one of: owner/small, other/small."),
        ("demo-modle", "No model is called “demo-modle”. Did you mean /srv/models/demo-model?"),
        ("gpt", f"No model is called “gpt”. There are: {', '.join(ids)}."),
    ):
        with pytest.raises(ConfigError) as refused:
            await asking.choose(router, wanted, printer)
        assert str(refused.value) == told


async def test_a_failure_brings_its_own_advice(router: Router, engine: FakeEngine, printer: Printer) -> None:
    engine.state = Capabilities(EngineState.FAILED, "It wants a key.", action="Set one, then press Retry.")
    with pytest.raises(EngineUnavailableError) as away:
        await asking.choose(router, None, printer)
    assert str(away.value) == "It wants a key. Set one, then ask again."


async def test_a_servers_names_cannot_move_the_terminals_cursor(
    router: Router, engine: FakeEngine, printer: Printer
) -> None:
    engine.state = Capabilities(EngineState.READY, models=(ModelInfo("one\x1b]52;c;aGk=\x07"),))
    with pytest.raises(ConfigError) as refused:
        await asking.choose(router, "two", printer)
    assert refused.value.action == "There are: one]52;c;aGk=."


async def test_a_server_that_is_away_is_no_fault_of_the_command(printer: Printer) -> None:
    with serve({"plain": ANSWER}) as lab:
        url = lab.url
    async with aclosing(Router(None, [Server("lab", url)])) as router:
        with pytest.raises(EngineUnavailableError) as away:
            await asking.choose(router, None, printer)
    assert away.value.what == "The server “lab” is not running: nothing answers at its address."


async def test_a_slow_list_of_models_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, terminal: Terminal
) -> None:
    monkeypatch.setattr("backend.router.FIRST_ANSWER_S", 0.01)

    async def slow(call: Call) -> None:
        await call.hold()
        await call.json(200, {"object": "list", "data": [{"id": "late", "object": "model"}]})

    printer = Printer(io.StringIO(), terminal, as_json=False)
    with serve({}, {"GET /v1/models": slow}) as lab:
        async with aclosing(Router(None, [Server("lab", lab.url)])) as router:
            choosing = asyncio.create_task(asking.choose(router, None, printer))
            await until(lambda: bool(terminal.getvalue() and lab.calls))
            assert not choosing.done()
            lab.calls[0].go_on()
            assert await asyncio.wait_for(choosing, 10) == "late @ lab"
    assert terminal.getvalue() == f"{CLEAR}Asking which models there are …"


# The answer.


async def test_an_answer_is_printed_as_it_comes(
    router: Router, engine: FakeEngine, printer: Printer, out: io.StringIO, err: io.StringIO
) -> None:
    gate = asyncio.Event()
    answer = engine.will_answer("A red", gate, " circle.")
    task = asyncio.create_task(asking.ask(router, REQUEST, printer))
    await asyncio.wait_for(answer.stalled.wait(), 5)
    assert out.getvalue() == "A red"
    gate.set()
    await asyncio.wait_for(task, 5)
    assert out.getvalue() == "A red circle.\n"
    assert err.getvalue() == ""
    assert engine.requests == [REQUEST]


async def test_an_answer_that_ends_its_line_gets_no_other(
    router: Router, engine: FakeEngine, printer: Printer, out: io.StringIO
) -> None:
    engine.will_answer("One.\nTwo.\n")
    await asking.ask(router, REQUEST, printer)
    assert out.getvalue() == "One.\nTwo.\n"


async def test_an_answer_that_is_left_ends_in_the_engine(
    router: Router, engine: FakeEngine, printer: Printer, out: io.StringIO
) -> None:
    answer = engine.will_answer("A red", asyncio.Event())
    task = asyncio.create_task(asking.ask(router, REQUEST, printer))
    await asyncio.wait_for(answer.stalled.wait(), 5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert answer.closed.is_set()
    assert not answer.finished
    printer.close()
    assert out.getvalue() == "A red\n"


async def test_what_had_come_is_kept_when_it_breaks_off(
    router: Router, engine: FakeEngine, printer: Printer, out: io.StringIO
) -> None:
    engine.will_answer("A red", InterruptedStreamError("It broke off.", "Kept; press Retry for another."))
    with pytest.raises(InterruptedStreamError) as broken:
        await asking.ask(router, REQUEST, printer)
    assert out.getvalue() == "A red\n"
    assert str(broken.value) == "It broke off. Kept; ask again for another."


@pytest.mark.parametrize(
    ("on_page", "here"),
    [
        ("Press Retry in a moment.", "Ask again in a moment."),
        ("Choose another model in the settings.", "Choose another model with --model."),
        ("Lower Max tokens, then press Retry.", "Lower --max-tokens, then ask again."),
    ],
)
async def test_an_action_needs_no_page(
    router: Router, engine: FakeEngine, printer: Printer, on_page: str, here: str
) -> None:
    engine.will_answer(RejectedError("It was refused.", on_page))
    with pytest.raises(RejectedError) as refused:
        await asking.ask(router, REQUEST, printer)
    assert (refused.value.what, refused.value.action) == ("It was refused.", here)


async def test_a_model_that_is_not_offered(router: Router, printer: Printer, out: io.StringIO) -> None:
    with pytest.raises(UnknownModelError):
        await asking.ask(router, ChatRequest("other", REQUEST.messages), printer)
    assert out.getvalue() == ""


async def test_what_was_left_out_or_cut_is_noted_beside_the_answer(
    router: Router, engine: FakeEngine, printer: Printer, out: io.StringIO, err: io.StringIO
) -> None:
    engine.will_answer("A red", Finished(Stats("length", ignored="temperature, seed")))
    await asking.ask(router, REQUEST, printer)
    assert out.getvalue() == "A red\n"
    cut, ignored = err.getvalue().splitlines()
    assert "--max-tokens" in cut
    assert "temperature, seed" in ignored


async def test_an_answer_as_json_is_one_object_at_the_end(
    router: Router, engine: FakeEngine, out: io.StringIO, err: io.StringIO
) -> None:
    gate = asyncio.Event()
    answer = engine.will_answer(ReasoningDelta("Hm."), "Un carré ", gate, "bleu.", Finished(STATS))
    task = asyncio.create_task(asking.ask(router, REQUEST, Printer(out, err, as_json=True)))
    await asyncio.wait_for(answer.stalled.wait(), 5)
    assert out.getvalue() == ""
    gate.set()
    await asyncio.wait_for(task, 5)
    assert out.getvalue().count("\n") == 1
    assert json.loads(out.getvalue()) == {
        "model": MODEL,
        "text": "Un carré bleu.",
        "reasoning": "Hm.",
        "finish_reason": "stop",
        "prompt_tokens": 12,
        "completion_tokens": 3,
        "ttft_s": 0.5,
        "duration_s": 1.5,
        "tokens_per_second": 2.0,
        "estimated": False,
        "ignored": "",
        "error": None,
    }
    assert err.getvalue() == ""


async def test_an_answer_as_json_that_breaks_off_holds_what_had_come(
    router: Router, engine: FakeEngine, out: io.StringIO, err: io.StringIO
) -> None:
    engine.will_answer("A red", InterruptedStreamError("It broke off.", "Press Retry."))
    with pytest.raises(InterruptedStreamError):
        await asking.ask(router, REQUEST, Printer(out, err, as_json=True))
    told = json.loads(out.getvalue())
    assert (told["text"], told["finish_reason"]) == ("A red", "interrupted")
    assert told["error"] == "It broke off. Ask again."


# What a person at a terminal sees meanwhile.


async def test_a_terminal_shows_how_far_a_model_is(
    router: Router, engine: FakeEngine, out: io.StringIO, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "LOOK_EVERY_S", 0.001)
    model = ModelInfo(MODEL)
    engine.state = Capabilities(EngineState.LOADING, "Loading the weights", 7.4, (model,))
    gate = asyncio.Event()
    engine.will_answer(gate, "Hello.")
    task = asyncio.create_task(asking.ask(router, REQUEST, Printer(out, terminal, as_json=False)))
    await until(lambda: bool(terminal.getvalue()))
    loading = f"{CLEAR}Loading {MODEL}: Loading the weights, 7 s"
    assert terminal.getvalue() == loading
    engine.state = Capabilities(EngineState.READY, models=(model,))
    await until(lambda: terminal.getvalue() != loading)
    assert terminal.getvalue() == f"{loading}{CLEAR}Waiting for the answer …"
    gate.set()
    await asyncio.wait_for(task, 5)
    assert terminal.getvalue() == f"{loading}{CLEAR}Waiting for the answer …{CLEAR}"
    assert out.getvalue() == "Hello.\n"


async def test_a_terminal_shows_that_it_thinks_or_waits(
    router: Router, engine: FakeEngine, out: io.StringIO, terminal: Terminal
) -> None:
    engine.will_answer(Waiting(2.6), ReasoningDelta("Hm."), ReasoningDelta("Yes."), "Hello.")
    await asking.ask(router, REQUEST, Printer(out, terminal, as_json=False))
    shown = terminal.getvalue().split(CLEAR)
    assert "The server is busy. Trying again in 3 s." in shown
    assert shown.count("Thinking …") == 1
    assert shown[-1] == ""
    assert out.getvalue() == "Hello.\n"


async def test_where_nobody_looks_on_nothing_is_shown(
    router: Router, engine: FakeEngine, printer: Printer, err: io.StringIO
) -> None:
    engine.will_answer(Waiting(0), ReasoningDelta("Hm."), "Hello.")
    await asking.ask(router, REQUEST, printer)
    assert err.getvalue() == ""


def test_progress_never_wipes_an_answer_that_has_begun(out: io.StringIO, terminal: Terminal) -> None:
    printer = Printer(out, terminal, as_json=False)
    printer.text("A red ")
    printer.progress("Thinking …")
    printer.text("circle.")
    printer.close()
    assert (out.getvalue(), terminal.getvalue()) == ("A red circle.\n", "")


def test_progress_stays_on_one_line(out: io.StringIO, terminal: Terminal) -> None:
    Printer(out, terminal, as_json=False).progress("x" * 500)
    assert terminal.getvalue() == CLEAR + "x" * 79


def test_a_note_stands_on_a_line_of_its_own(out: io.StringIO, terminal: Terminal) -> None:
    printer = Printer(out, terminal, as_json=False)
    printer.progress("Waiting …")
    printer.note("Something is to be known.")
    assert terminal.getvalue() == f"{CLEAR}Waiting …{CLEAR}Something is to be known.\n"


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("red\x1b[2J\x1b]52;c;aGk=\x07", "red[2J]52;c;aGk="),
        ("one\r\n\ttwo\x08\x9b1A", "one\n\ttwo1A"),
        ("👩\u200d🚀 é 图", "👩\u200d🚀 é 图"),
    ],
)
def test_a_model_cannot_move_the_terminals_cursor(written: str, shown: str) -> None:
    terminal, file = Terminal(), io.StringIO()
    for place in (terminal, file):
        Printer(place, io.StringIO(), as_json=False).text(written)
    assert terminal.getvalue() == shown
    assert file.getvalue() == written


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - a StringIO tells nobody
            await asyncio.sleep(0.001)


# From the settings to the answer, over a socket.


@pytest.fixture
def lab() -> Iterator[FaultServer]:
    with serve({"plain": ANSWER}) as server:
        yield server


async def test_a_question_goes_to_the_server_that_was_named(
    settings: Settings, lab: FaultServer, printer: Printer, out: io.StringIO, pictures: Path
) -> None:
    question = Question(("What?", str(pictures / "circle.png")), None, Sampling(0.5, 0.9, 77, 3))
    plan = StartPlan(None, (Server("lab", lab.url, "sk-key"),))
    await asking.run(settings, plan, question, printer)
    assert out.getvalue() == f"{TEXT}\n"
    [call] = lab.chats()
    assert call.headers["authorization"] == "Bearer sk-key"
    assert (call.body["temperature"], call.body["top_p"], call.body["seed"]) == (0.5, 0.9, 3)
    [message] = call.body["messages"]
    assert [part["type"] for part in message["content"]] == ["text", "image_url"]
    assert message["content"][1]["image_url"]["url"].startswith("data:image/")


async def test_a_system_prompt_is_set_before_a_chat_that_has_none(
    settings: Settings, lab: FaultServer, printer: Printer, tmp_path: Path
) -> None:
    brief = settings.model_copy(update={"system_prompt": "Be brief."})
    plan = StartPlan(None, (Server("lab", lab.url),))
    question, own = {"role": "user", "content": "Hello!"}, {"role": "system", "content": "Be kind."}
    for chat in ([question], [own, question]):
        file = chat_file(tmp_path, chat)
        await asking.run(brief, plan, Question((), file, Sampling()), printer)
    sent = [[message["content"] for message in call.body["messages"]] for call in lab.chats()]
    assert sent == [["Be brief.", "Hello!"], ["Be kind.", "Hello!"]]


async def test_a_data_folder_that_cannot_be_written(
    settings: Settings, printer: Printer, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    unusable = settings.model_copy(update={"data_dir": tmp_path / "file" / "data"})
    with pytest.raises(ConfigError, match="The data folder cannot be written"):
        await asking.run(unusable, OWN_MODEL, Question(("Hello!",), None, Sampling()), printer)


# With a model in this process.


class OwnEngine:
    """In the place of vLLM: answers through a FakeEngine, and tells how it was stopped."""

    def __init__(self) -> None:
        self.fake = FakeEngine()
        self.state = EngineState.READY
        self.stopped_within_s: float | None = None

    async def capabilities(self) -> Capabilities:
        return Capabilities(self.state, models=(ModelInfo("sightline-demo"),))

    def stream(self, request: ChatRequest) -> AsyncGenerator[Event, None]:
        return self.fake.stream(request)

    def start(self) -> None:
        """It is there already."""

    def stop(self, timeout_s: float) -> None:
        self.stopped_within_s = timeout_s


@pytest.fixture
async def own_engine(monkeypatch: pytest.MonkeyPatch) -> OwnEngine:
    engine = OwnEngine()
    monkeypatch.setattr(asking, "InProcessEngine", lambda *_, **__: engine)
    monkeypatch.setattr(asking.resource_tracker, "ensure_running", lambda: None)
    monkeypatch.setenv("VLLM_LOGGING_CONFIG_PATH", "")  # so that what is set is undone
    return engine


async def test_an_engine_of_its_own_is_stopped_in_the_end(
    settings: Settings, own_engine: OwnEngine, printer: Printer, out: io.StringIO, err: io.StringIO
) -> None:
    own_engine.fake.will_answer("Hello.")
    plan = StartPlan(plan_engine(None, ("--limit-mm-per-prompt", "image=2")), ())
    await asking.run(settings, plan, HELLO, printer)
    assert out.getvalue() == "Hello.\n"
    assert "old spelling" in err.getvalue()
    assert own_engine.stopped_within_s == STOP_TIMEOUT_S


@pytest.mark.parametrize(
    ("state", "stopped_within_s"), [(EngineState.LOADING, 0.0), (EngineState.READY, STOP_TIMEOUT_S)]
)
async def test_an_engine_that_loads_is_left_at_once(
    settings: Settings,
    own_engine: OwnEngine,
    printer: Printer,
    state: EngineState,
    stopped_within_s: float,
) -> None:
    own_engine.state = state
    answer = own_engine.fake.will_answer(asyncio.Event())
    task = asyncio.create_task(asking.run(settings, OWN_MODEL, HELLO, printer))
    await asyncio.wait_for(answer.stalled.wait(), 5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert own_engine.stopped_within_s == stopped_within_s


@pytest.mark.parametrize(
    ("state", "error", "action"),
    [
        (
            EngineState.FAILED,
            EngineUnavailableError("It could not start.", "Stop programs."),
            "Stop programs.",
        ),
        (EngineState.LOADING, EngineDiedError("It died.", "It is being started again."), "Ask again."),
    ],
    ids=["failed", "died"],
)
async def test_where_vllms_own_words_are_is_told(
    settings: Settings, own_engine: OwnEngine, state: EngineState, error: EngineError, action: str
) -> None:
    printer = Printer(io.StringIO(), io.StringIO(), as_json=False)
    own_engine.state = state
    own_engine.fake.will_answer(error)
    with pytest.raises(type(error)) as told:
        await asking.run(settings, OWN_MODEL, HELLO, printer)
    log = settings.data_dir / "logs" / "ask" / "engine.log"
    assert (told.value.what, told.value.action) == (error.what, f"{action} What vLLM wrote is in {log}")
    assert log.exists()


# The command.


class Asked:
    """What ``asking.run`` was called with."""

    plan: StartPlan
    question: Question


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    """In the place of the engine."""
    asked = Asked()

    async def run(_: Settings, plan: StartPlan, question: Question, printer: Printer) -> None:
        asked.plan, asked.question = plan, question
        printer.text("Hello.")
        printer.close()

    monkeypatch.setattr(asking, "run", run)
    monkeypatch.setattr(app, "_has_vllm", lambda: True)
    return asked


@pytest.fixture
def sightline_ask(
    environment: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Iterator[Run]:
    """Run the command in this process: its status, its output, and what it complained of."""
    environment.setenv("XDG_DATA_HOME", str(tmp_path))
    before = (list(app.console.handlers), app.console.level, app.console.propagate)

    def run(*arguments: str) -> tuple[int, str, str]:
        environment.setattr(sys, "argv", ["sightline", "ask", *arguments])
        try:
            app.main()
            status = 0
        except SystemExit as done:
            status = int(done.code or 0)
        return status, *capsys.readouterr()

    yield run
    app.console.handlers[:], app.console.level, app.console.propagate = before


def test_the_command_asks_with_the_demo_model_unless_told_otherwise(sightline_ask: Run, asked: Asked) -> None:
    assert sightline_ask("What?", "a.jpg", "b.jpg") == (0, "Hello.\n", "")
    assert asked.question == Question(("What?", "a.jpg", "b.jpg"), None, Sampling())
    assert asked.plan == OWN_MODEL


def test_flags_are_read_wherever_they_stand(sightline_ask: Run, asked: Asked) -> None:
    status, _, err = sightline_ask(
        *("--temperature", "0.7", "What?", "--top-p=0.9", "a.jpg", "--max-tokens", "8192", "--seed", "3"),
        *("--model", "owner/model", "--max-model-len", "4096", "--limit-mm-per-prompt", "image=1"),
        *("--format", "mistral", "--disable-mm-processor-cache"),
    )
    assert (status, err) == (0, "")
    assert asked.question == Question(("What?", "a.jpg"), None, Sampling(0.7, 0.9, 8192, 3))
    assert asked.plan.engine is not None
    assert asked.plan.engine.argv == (
        *("--model", "owner/model", "--max-model-len", "4096", "--limit-mm-per-prompt", '{"image": 1}'),
        *("--tokenizer-mode", "mistral", "--config-format", "mistral", "--load-format", "mistral"),
        *("--mm-processor-cache-gb", "0"),
    )


def test_a_format_takes_the_place_of_the_demo_models_own(sightline_ask: Run, asked: Asked) -> None:
    sightline_ask("What?", "--format", "hf")
    assert asked.plan.engine is not None
    assert asked.plan.engine.argv.count("--load-format") == 1
    assert "mistral" not in asked.plan.engine.argv


def test_a_server_is_asked_in_the_place_of_a_model_here(
    sightline_ask: Run, asked: Asked, environment: pytest.MonkeyPatch
) -> None:
    environment.setenv("OPENAI_BASE_URL", "https://models.example/v1")
    assert sightline_ask("What?", "--model", "theirs")[0] == 0
    assert asked.plan.engine is None
    assert [server.name for server in asked.plan.servers] == ["models.example"]


def test_a_prompt_is_read_from_a_pipe(
    sightline_ask: Run, asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("What is this?\n"))
    sightline_ask("-", "a.jpg")
    assert asked.question.words == ("What is this?", "a.jpg")


def test_signs_that_the_terminal_cannot_show_are_replaced(
    sightline_ask: Run, asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run(_: Settings, __: StartPlan, ___: Question, printer: Printer) -> None:
        printer.text("rot \ud83d 图")

    monkeypatch.setattr(asking, "run", run)
    data = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(data, encoding="latin-1"))
    assert sightline_ask("What?")[0] == 0
    assert data.getvalue() == b"rot ? ?"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ((), "There is one question to ask"),
        (("What?", "--messages", "chat.json"), "There is one question to ask"),
        (("--max-model-len", "2048", "What?"), "Write it first"),
        (("What?", "--temperature", "3"), "--temperature"),
        (("What?", "--max-tokens", "0"), "--max-tokens"),
        (("What?", "--format", "gguf"), "--format"),
        (("What?", "--api-key", "sk-hidden"), "VLLM_API_KEY"),
        (("What?", "--base-url", "http://a.example/v1", "--format", "hf"), "--format is for a model"),
        (
            ("What?", "--base-url", "http://a.example/v1", "--max-model-len", "9"),
            "--max-model-len is no flag",
        ),
    ],
)
def test_what_cannot_be_asked_is_said_with_status_2(
    sightline_ask: Run, asked: Asked, arguments: tuple[str, ...], complaint: str
) -> None:
    status, out, err = sightline_ask(*arguments)
    assert (status, out) == (2, "")
    assert complaint in " ".join(err.split())
    assert "Traceback" not in err
    assert "sk-hidden" not in err
    assert not hasattr(asked, "plan")


def test_a_model_that_fails_is_said_with_status_1(
    sightline_ask: Run, asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run(_: Settings, __: StartPlan, ___: Question, printer: Printer) -> None:
        printer.text("A red")
        printer.close()
        raise InterruptedStreamError("It broke off.", "Ask again.")

    monkeypatch.setattr(asking, "run", run)
    assert sightline_ask("What?") == (1, "A red\n", "sightline: It broke off. Ask again.\n")


def test_help_names_every_flag_and_shows_a_line_to_copy(
    sightline_ask: Run, environment: pytest.MonkeyPatch
) -> None:
    environment.setenv("COLUMNS", "200")
    status, out, err = sightline_ask("--help")
    assert (status, err) == (0, "")
    for flag in ("--messages", "--temperature", "--json", "--format", "--base-url", "--system-prompt"):
        assert flag in out
    assert 'sightline ask "Describe this image in one sentence." cherry.jpg\n' in out
