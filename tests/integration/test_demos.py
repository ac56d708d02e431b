"""What the source documents show, in this process and against a real ``vllm serve``."""

import asyncio
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing, suppress
from pathlib import Path

import psutil
import pytest
from e2e.drawings import RED_CIRCLE
from e2e.website import Website, serve_website
from PIL import Image as Pil

from backend import asking
from backend.config import Settings
from backend.errors import (
    ContextOverflowError,
    EngineUnavailableError,
    KeyRefusedError,
    TooManyImagesError,
)
from backend.fetch import Fetcher
from backend.inprocess import InProcessEngine
from backend.openai_engine import OpenAIEngine
from backend.picture_pool import PicturePool
from backend.question import Reader
from backend.router import Router
from backend.servers import Server
from backend.types import ChatRequest, EngineState, Sampling, TextDelta
from backend.vllm_args import DEMO_NAME

from .app_process import APP, ENVIRONMENT, wait_for
from .asking import NEVER_ENDING, ask, picture, user
from .test_engine import assert_says
from .vllm_serve import CONTEXT_LENGTH, IMAGE_LIMIT, MODEL, ROOT, VllmServe

ADVANCED = ROOT / "assets" / "demos" / "advanced.json"
MENU_NAME = f"{MODEL} @ vllm"
KEY = "sk-right"
PAINTER = "Who is the best French painter?"
GREEDY = ("--temperature", "0")
# So short a prompt that vLLM's attention, which does not ask for it, is the first to use a CPU's AMX.
ENDLESS = (
    *("Hello", "--temperature", "0", "--seed", str(NEVER_ENDING.seed)),
    *("--max-tokens", str(NEVER_ENDING.max_tokens)),
)
BLUE_SQUARE = picture("blue", "square")


@pytest.fixture(scope="module")
def starting_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VllmServe]:
    """``vllm serve`` with the demo model, which it may still load."""
    server = VllmServe(tmp_path_factory.mktemp("serve"))
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def server(starting_server: VllmServe) -> VllmServe:
    """The same, ready."""
    starting_server.wait_until_it_answers()
    return starting_server


@pytest.fixture(scope="module")
def locked(server: VllmServe) -> VllmServe:
    """The same server, started with a key."""
    if server.api_key != KEY:
        server.stop()
        server.start(api_key=KEY)
        server.wait_until_it_answers()
    return server


@pytest.fixture
async def remote(server: VllmServe) -> AsyncIterator[OpenAIEngine]:
    """The page's engine over a socket."""
    engine = OpenAIEngine(Server("vllm", server.base_url, KEY))
    yield engine
    await engine.aclose()


@pytest.fixture(scope="module")
def website() -> Iterator[Website]:
    with serve_website() as site:
        yield site


@pytest.fixture
def cherry(tmp_path: Path) -> Path:
    """The picture of the simple demo, as far as the demo model can tell."""
    file = tmp_path / "cherry.jpg"
    Pil.open(io.BytesIO(RED_CIRCLE)).save(file, quality=95)
    return file


@pytest.fixture
def advanced(tmp_path: Path, website: Website) -> Path:
    """The advanced demo, its addresses turned to a site that can be reached from here."""
    website.asked.clear()
    chat = json.loads(ADVANCED.read_text())
    parts = [part for message in chat if isinstance(message["content"], list) for part in message["content"]]
    addresses = [part["image_url"] for part in parts if part["type"] == "image_url"]
    for address, name in zip(addresses, ("circle", "square", "triangle"), strict=True):
        address["url"] = f"{website.url}/{name}.png"
    file = tmp_path / "advanced.json"
    file.write_text(json.dumps(chat))
    return file


class Command:
    """``sightline ask`` as people run it in a terminal: a process of its own, in a group of its own."""

    def __init__(self, folder: Path, *arguments: object, base_url: str = "", key: str = "") -> None:
        environment = {name: value for name, value in ENVIRONMENT.items() if not name.startswith("OPENAI_")}
        environment |= {"XDG_DATA_HOME": str(folder / "data"), "PYTHONPATH": str(ROOT / "tests")}
        environment |= {"OPENAI_BASE_URL": base_url, "OPENAI_API_KEY": key} if base_url else {}
        self._process = subprocess.Popen(
            [sys.executable, str(APP), "ask", *map(str, arguments)],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            bufsize=0,
        )

    def result(self) -> tuple[int, str, str]:
        """Its status and all that it has written, once it has ended."""
        out, err = self._process.communicate(timeout=240)
        return self._process.returncode, out.decode(), err.decode()

    def first_bytes(self) -> str:
        """What it has written first; it still writes."""
        assert self._process.stdout is not None
        first = os.read(self._process.stdout.fileno(), 1000)
        assert self._process.poll() is None, self.result()
        return first.decode()

    def close_stdout(self) -> None:
        """What ``head`` does once it has its lines."""
        assert self._process.stdout is not None
        self._process.stdout.close()

    def children(self) -> list[psutil.Process]:
        """The processes that it has started, vLLM's among them."""
        return psutil.Process(self._process.pid).children(recursive=True)

    def press_ctrl_c(self) -> None:
        """What a terminal does: every process of the group gets the signal."""
        os.killpg(self._process.pid, signal.SIGINT)

    def kill(self) -> None:
        """Leave nothing behind, whatever a test found."""
        children = self.children() if self._process.poll() is None else []
        self._process.kill()
        for process in children:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self._process.communicate(timeout=10)


StartAsking = Callable[..., Command]


@pytest.fixture
def sightline_ask(tmp_path: Path) -> Iterator[StartAsking]:
    """Start ``sightline ask`` with these arguments; it is gone after the test."""
    commands: list[Command] = []

    def start(*arguments: object, base_url: str = "", key: str = "") -> Command:
        commands.append(Command(tmp_path, *arguments, base_url=base_url, key=key))
        return commands[-1]

    yield start
    for command in commands:
        command.kill()


# The command, with a model of its own. The server loads meanwhile.


@pytest.mark.usefixtures("starting_server")
def test_the_simple_demo_in_this_process(sightline_ask: StartAsking, cherry: Path) -> None:
    status, out, err = sightline_ask(
        *("Describe this image in one sentence.", cherry.name),
        *("--format", "mistral", "--disable-mm-processor-cache", "--max-tokens", "2048"),
    ).result()
    assert (status, err) == (0, "")
    assert_says(out, "red", "circle")


@pytest.mark.usefixtures("starting_server")
def test_ctrl_c_leaves_no_process_behind(sightline_ask: StartAsking) -> None:
    command = sightline_ask(*ENDLESS, "--logits-processors", f"{__package__}.never_ending:NeverEnding")
    first = command.first_bytes()
    children = command.children()
    assert children, "vLLM has processes of its own"
    command.press_ctrl_c()
    status, rest, err = command.result()
    assert (status, err) == (130, "")
    assert (first + rest).endswith("\n"), "the next prompt of the shell begins a line"
    assert not psutil.wait_procs(children, timeout=10)[1], "left behind"


@pytest.mark.usefixtures("starting_server")
def test_ctrl_c_while_the_model_loads(sightline_ask: StartAsking) -> None:
    command = sightline_ask("Hello!")
    wait_for(command.children, "vLLM starts a process", 60)
    children = command.children()
    command.press_ctrl_c()
    assert command.result() == (130, "", "")
    assert not psutil.wait_procs(children, timeout=10)[1], "left behind"


# The page's engine over a socket.


async def test_a_server_tells_its_model_and_its_context(remote: OpenAIEngine) -> None:
    told = await remote.capabilities()
    assert told.state is EngineState.READY
    [model] = told.models
    assert (model.id, model.name, model.context_length) == (MODEL, MENU_NAME, CONTEXT_LENGTH)


async def test_a_server_answers_as_the_engine_in_this_process_does(
    remote: OpenAIEngine, engine: InProcessEngine
) -> None:
    question = user("What do you see?", BLUE_SQUARE)
    over_socket = await ask(remote, question, model=MODEL)
    here = await ask(engine, question, model=DEMO_NAME)
    assert_says(here.text, "blue", "square")
    assert over_socket.text == here.text
    assert over_socket.stats.prompt_tokens == here.stats.prompt_tokens
    assert over_socket.stats.completion_tokens == here.stats.completion_tokens


async def test_closing_the_iterator_ends_the_request_in_the_server(
    server: VllmServe, remote: OpenAIEngine
) -> None:
    events = remote.stream(ChatRequest(MODEL, (user("Hello!"),), NEVER_ENDING))
    async with aclosing(events):
        while not isinstance(await anext(events), TextDelta):
            pass
        assert await asyncio.to_thread(server.requests) == 1
    await asyncio.to_thread(wait_for, lambda: server.requests() == 0, "the server drops the request", 1)


async def test_a_servers_refusals_are_told_in_our_words(remote: OpenAIEngine) -> None:
    with pytest.raises(ContextOverflowError) as too_long:
        await ask(remote, user("hello " * 5000), model=MODEL)
    assert "4,096 tokens" in too_long.value.what
    with pytest.raises(TooManyImagesError) as too_many:
        await ask(remote, user(*[BLUE_SQUARE] * (IMAGE_LIMIT + 1), "What do you see?"), model=MODEL)
    assert f"at most {IMAGE_LIMIT} pictures" in too_many.value.what


# The command, against the server.


def test_the_simple_demo(sightline_ask: StartAsking, server: VllmServe, cherry: Path) -> None:
    command = sightline_ask("Describe this image in one sentence.", cherry.name, base_url=server.base_url)
    status, out, err = command.result()
    assert (status, err) == (0, "")
    assert_says(out, "red", "circle")
    assert out.endswith(".\n")


def test_the_advanced_demo(
    sightline_ask: StartAsking, server: VllmServe, advanced: Path, website: Website
) -> None:
    status, out, err = sightline_ask(
        *("--messages", advanced, "--temperature", "0.7", "--allow-private-addresses"),
        base_url=server.base_url,
    ).result()
    assert (status, err) == (0, "")
    assert out.strip()
    assert website.asked == ["/circle.png", "/square.png", "/triangle.png"]


async def test_the_advanced_demo_in_this_process(
    engine: InProcessEngine, settings: Settings, pool: PicturePool, advanced: Path
) -> None:
    out = io.StringIO()
    printer = asking.Printer(out, io.StringIO(), as_json=False)
    reachable = settings.model_copy(update={"allow_private_addresses": True})
    messages = await Reader(Fetcher(reachable.fetch_limits), pool, printer.progress, printer.note).chat(
        advanced
    )
    router = Router(engine)
    model = await asking.choose(router, None, printer)
    await asking.ask(router, ChatRequest(model, messages, Sampling(temperature=0.7)), printer)
    assert model == DEMO_NAME
    assert out.getvalue().strip()


@pytest.mark.parametrize(
    "question",
    [f"{PAINTER} Answer in one short sentence.", f"{PAINTER} Answer with detailed explanations."],
    ids=["short", "detailed"],
)
def test_questions_without_a_picture(sightline_ask: StartAsking, server: VllmServe, question: str) -> None:
    status, out, err = sightline_ask(question, *GREEDY, base_url=server.base_url).result()
    assert (status, err) == (0, "")
    assert "demo model" in out, "it knows no painters, and says so"


@pytest.mark.parametrize(
    ("question", "words"),
    [
        (("Describe this image in a short sentence.", "circle"), ("red", "circle")),
        # One image of three: the demo model takes the last.
        (("Describe this image", "circle", "square", "triangle"), ("green", "triangle")),
        (
            ("Describe these images", "circle", "square", "triangle"),
            ("red", "circle", "blue", "square", "green", "triangle"),
        ),
    ],
    ids=["one", "three", "three, each"],
)
def test_questions_about_pictures_by_address(
    sightline_ask: StartAsking,
    server: VllmServe,
    website: Website,
    question: tuple[str, ...],
    words: tuple[str, ...],
) -> None:
    website.asked.clear()
    prompt, *names = question
    status, out, err = sightline_ask(
        *(prompt, *(f"{website.url}/{name}.png" for name in names)),
        *("--allow-private-addresses", *GREEDY),
        base_url=server.base_url,
    ).result()
    assert (status, err) == (0, "")
    assert_says(out, *words)
    assert website.asked == [f"/{name}.png" for name in names]


def test_an_answer_as_json(sightline_ask: StartAsking, server: VllmServe, cherry: Path) -> None:
    status, out, err = sightline_ask(
        "Describe this image in one sentence.", cherry, "--json", *GREEDY, base_url=server.base_url
    ).result()
    assert (status, err) == (0, "")
    told = json.loads(out)
    assert_says(told["text"], "red", "circle")
    assert (told["model"], told["finish_reason"], told["error"]) == (
        f"{MODEL} @ 127.0.0.1:{server.port}",
        "stop",
        None,
    )
    assert told["prompt_tokens"] > 64
    assert 0 < told["ttft_s"] < told["duration_s"]


def test_an_answer_streams_until_ctrl_c(sightline_ask: StartAsking, server: VllmServe) -> None:
    command = sightline_ask(*ENDLESS, base_url=server.base_url)
    first = command.first_bytes()
    assert first
    assert server.requests() == 1
    command.press_ctrl_c()
    status, _, err = command.result()
    assert (status, err) == (130, "")
    wait_for(lambda: server.requests() == 0, "the server drops the request", 1)


def test_a_reader_that_has_seen_enough_ends_it_quietly(sightline_ask: StartAsking, server: VllmServe) -> None:
    command = sightline_ask(*ENDLESS, base_url=server.base_url)
    command.first_bytes()
    command.close_stdout()
    status, _, err = command.result()
    assert (status, err) == (1, "")
    wait_for(lambda: server.requests() == 0, "the server drops the request", 1)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("What is this?", "absent.jpg"), "“absent.jpg” cannot be read."),
        (("Hello!", "--model", "other"), f"No model is called “other”. There are: {MODEL} @ 127.0.0.1:"),
        (("Hello!", "--format", "hf"), "--format is for a model that is loaded into this process"),
    ],
    ids=["picture", "model", "flag"],
)
def test_what_cannot_be_asked_is_told_with_status_2(
    sightline_ask: StartAsking, server: VllmServe, arguments: tuple[str, ...], sentence: str
) -> None:
    status, out, err = sightline_ask(*arguments, base_url=server.base_url).result()
    assert (status, out) == (2, "")
    assert err.startswith(f"sightline: {sentence}")
    assert err.count("\n") == 1


# The server goes, and comes back with a key.


async def test_a_server_that_goes_and_comes_back(sightline_ask: StartAsking, server: VllmServe) -> None:
    remote = Server("vllm", server.base_url, KEY)
    async with aclosing(Router(None, [remote])) as router, aclosing(Router(None, [remote])) as late:
        before = await ask(router, user("Hello!"), model=MENU_NAME)

        command = sightline_ask(*ENDLESS, base_url=server.base_url)
        first = await asyncio.to_thread(command.first_bytes)
        await asyncio.to_thread(server.stop)
        status, rest, err = await asyncio.to_thread(command.result)
        assert status == 1
        assert first.strip()
        assert (first + rest).endswith("\n")
        assert err.startswith("sightline: ")
        assert err.endswith("What had arrived is kept; ask again for a new answer.\n")

        with pytest.raises(EngineUnavailableError) as away:
            await ask(router, user("Hello!"), model=MENU_NAME)
        assert away.value.what == "The server “vllm” is not running: nothing answers at its address."
        assert (await late.capabilities()).state is EngineState.FAILED
        await until(EngineState.FAILED, router)

        server.start(KEY)
        await asyncio.to_thread(server.wait_until_it_answers)
        for one in (router, late):
            await until(EngineState.READY, one)
            assert (await ask(one, user("Hello!"), model=MENU_NAME)).text == before.text


@pytest.mark.parametrize(
    ("key", "sentence"),
    [
        ("sk-wrong", "The server “vllm” did not accept the key."),
        ("", "The server “vllm” wants a key, and none was set."),
    ],
    ids=["wrong", "none"],
)
async def test_a_server_that_wants_a_key(locked: VllmServe, key: str, sentence: str) -> None:
    engine = OpenAIEngine(Server("vllm", locked.base_url, key))
    async with aclosing(engine):
        told = await engine.capabilities()
        assert (told.state, told.stage) == (EngineState.FAILED, sentence)
        with pytest.raises(KeyRefusedError) as refused:
            await ask(engine, user("Hello!"), model=MODEL)
    assert refused.value.what == sentence


def test_the_command_takes_its_key_from_the_environment(
    sightline_ask: StartAsking, locked: VllmServe
) -> None:
    right = sightline_ask("Hello!", *GREEDY, base_url=locked.base_url, key=KEY)
    wrong = sightline_ask("Hello!", *GREEDY, base_url=locked.base_url, key="sk-wrong")
    status, out, err = right.result()
    assert (status, err) == (0, "")
    assert "hello" in out.lower()
    status, out, err = wrong.result()
    assert (status, out) == (1, "")
    assert err.startswith(f"sightline: The server “127.0.0.1:{locked.port}” did not accept the key.")
    assert "sk-wrong" not in err


async def until(state: EngineState, router: Router) -> None:
    """Wait until the router tells this state; it looks for servers that are away every three seconds."""
    async with asyncio.timeout(10):
        while (await router.capabilities()).state is not state:  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.05)
