"""Launching the page, waiting for the end, and stopping cleanly."""

import gc
import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

import gradio as gr
from starlette.middleware import Middleware
from starlette.routing import BaseRoute

from backend import retention
from backend.admission import Admission
from backend.captioning.jobs import Jobs
from backend.config import MEGA, Settings
from backend.errors import ConfigError
from backend.fetch import Fetcher
from backend.inprocess import InProcessEngine
from backend.metrics import Metrics
from backend.picture_cache import PictureCache
from backend.picture_pool import PicturePool
from backend.replies import Replies
from backend.router import Router
from backend.start import StartPlan
from backend.store import Store
from backend.store_disk import has_chats
from backend.types import EngineState
from backend.vllm_log import prepare_log
from ui import api, growing
from ui.accounts import Accounts, others_may_read, read_accounts
from ui.caption_one import CaptionOne
from ui.captioning import Captioning
from ui.chat import Chat
from ui.choices import ModelMenu
from ui.examples import load_examples
from ui.fetching import Fetching
from ui.intake import Intake
from ui.layout import build, theme
from ui.middleware import Guard, Login, OperatorLink, PageHeaders, PostedBodies, known_hosts
from ui.operator_panel import Panel
from ui.operators import FIXED_TOKEN, QUERY, TRIES_PER_MINUTE, Operators, Tries, fixed_token
from ui.routes import WEB, routes
from ui.transfers import Transfers
from ui.uploads import KEPT_S, Uploads

EXAMPLES = WEB.parent / "examples"
EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104 - compared, not bound
CONCURRENT_EVENTS = 16  # of a kind that answers at once
WAITING_EVENTS = 1000  # of those; messages wait in a line of their own
# How often Gradio looks into its queue. Its own millisecond takes some percent of a core all day long, and of
# what people wait for little is in there: no message, and no reply.
QUEUE_LOOK_S = 0.02
# Pages of which Gradio keeps a copy of all components, for an hour: 170 kB each. Nothing of ours is in them.
SESSIONS = 250
LOGIN_NOTE = (
    "Log in with the account that whoever runs this app gave you. After "
    f"{TRIES_PER_MINUTE} tries within a minute, wait a minute."
)
# The style sheet is linked, not passed to Gradio, which would rewrite its selectors.
HEAD = """
<link rel="icon" href="sightline/icon.svg">
<link rel="stylesheet" href="sightline/page.css">
<link rel="stylesheet" href="sightline/chats.css">
<link rel="stylesheet" href="sightline/captions.css">
<link rel="stylesheet" href="sightline/messages.css">
<link rel="stylesheet" href="sightline/pictures.css">
<script src="sightline/page.js" defer></script>
<script src="sightline/chats.js" defer></script>
<script src="sightline/growing.js" defer></script>
<script src="sightline/messages.js" defer></script>
<script src="sightline/pictures.js" defer></script>
<script src="sightline/drafts.js" defer></script>
<script src="sightline/names.js" defer></script>
<script src="sightline/captions-words.js" defer></script>
<script src="sightline/captions-form.js" defer></script>
<script src="sightline/captions-previews.js" defer></script>
<script src="sightline/captions-tab.js" defer></script>
<script src="sightline/captions.js" defer></script>
"""

console = logging.getLogger("sightline")


def serve(settings: Settings, plan: StartPlan) -> None:
    """Run the app until SIGINT or SIGTERM. The page answers before an engine begins to load.

    Raises:
        ConfigError: the port is taken, accounts or a token cannot be used, or vLLM does not take its flags.
        StoreError: the data folder cannot be used.
    """
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())

    check_port(settings.host, settings.port)
    accounts = Accounts(read_accounts(settings.auth)) if settings.auth else None
    token = fixed_token(os.environ)
    key = api.api_key(os.environ, has_model=plan.engine is not None) if settings.api else ""
    operators = Operators(
        lambda token: console.info("Operator link, good once: %s/?%s=%s", address(settings), QUERY, token),
        token,
        accounts=accounts is not None,
    )
    engine_log = prepare_log(settings.data_dir / "logs")
    store = open_store(settings)
    store.interrupt_unfinished()
    pictures = PicturePool(settings.image_limits, settings.decoder_limits)
    cache = PictureCache(pictures)
    report = EngineReport(engine_log, stopped.set)
    engine = make_engine(plan, settings, engine_log, report, pictures)
    router = Router(engine, plan.servers, settings.idle_timeout_s, plan.corrections)
    is_demo = plan.engine is not None and plan.engine.is_demo
    examples = load_examples(EXAMPLES) if is_demo else ()
    admission = Admission(settings.stream_limits)
    metrics = Metrics(lambda: admission.streaming, lambda: admission.waiting)
    uploads = Uploads(
        settings.chats_dir / "uploads",
        settings.max_file_mb * MEGA,
        settings.max_images_per_message,
        admission,
        cache,
        kept_s=KEPT_S if settings.keeps_history else settings.history_idle_minutes * 60,
    )
    uploads.sweep()
    replies = Replies(
        store, router, lambda end: metrics.ended(end.status, end.stats), grace_s=settings.grace_s
    )
    fetcher = Fetcher(settings.fetch_limits)
    fetching = Fetching(settings, uploads, pictures, admission, metrics, fetcher)
    captions = Jobs(
        settings.chats_dir / "captions",
        router,
        pictures,
        fetcher,
        visitors=lambda: admission.streaming > 0,
    )
    chat = Chat(
        settings,
        store,
        router,
        replies,
        uploads,
        Intake(settings, cache),
        admission,
        metrics,
        fetching,
        examples,
        forget_more=captions.forget,
    )
    panel = Panel(operators, router, engine)
    page = build(
        chat,
        ModelMenu(settings, router),
        panel,
        CaptionOne(router, pictures, uploads, admission, metrics, settings),
        settings,
        is_demo=is_demo,
    )
    own_routes = [
        *routes(store, router, operators, metrics),
        *uploads.routes(),
        *Transfers(store, settings, pictures, admission).routes(),
        *Captioning(captions, settings, operators, admission).routes(),
        *growing.routes(replies, router),
    ]
    if key and engine is not None:
        own_routes += api.Api(key, engine, settings, pictures, fetcher, admission).routes()
    launch(
        page,
        settings,
        own_routes,
        uploads.folder,
        operators=operators,
        accounts=accounts,
        on_start=captions.resume_at_start,
    )
    try:
        console.info("Sightline is at %s", address(settings))
        access = access_lines(settings, has_token=bool(token), has_api=bool(key))
        for line in (*plan.lines, *access, *hidden_lines(settings)):
            console.info(line)
        operators.open()
        pictures.start()
        spare_collector()  # before a model loads, of which nothing may stay behind when it is started anew
        if engine is not None:
            engine.start()
        retention.keep(stopped, (*retention.steps(settings, store), uploads.sweep))
        console.info("Stopping.")
    finally:
        stop_all(page, (pictures.close,) if engine is None else (pictures.close, engine.stop))
        store.close()
    if report.refused is not None:
        raise report.refused


def spare_collector() -> None:
    """Leave out of the garbage collector's rounds what is there already, which stays until the end.

    Modules and the page are some hundred thousand objects. To go through them takes 0.2 s, in which nobody's
    reply grows.
    """
    gc.collect()
    gc.freeze()


def open_store(settings: Settings) -> Store:
    """The chats, as they are to be kept.

    Raises:
        ConfigError: in memory and in a database at once.
        StoreError: the data folder or the database cannot be used.
    """
    if settings.history == "off" and settings.database_url:
        raise ConfigError(
            "With --history off chats are in memory, and in no database.",
            "Leave out --history or --database-url.",
        )
    return Store.open(
        settings.chats_dir,
        settings.database_url,
        in_memory=not settings.keeps_history,
        limits=settings.store_limits,
    )


def make_engine(
    plan: StartPlan, settings: Settings, log: Path, report: "EngineReport", pictures: PicturePool
) -> InProcessEngine | None:
    """The model in this process, where one is planned; it does not load yet."""
    if plan.engine is None:
        return None
    idle = settings.idle_timeout_s
    return InProcessEngine(plan.engine, log, idle_timeout_s=idle, on_change=report, spared=pictures.pids)


def stop_all(page: gr.Blocks, stops: Sequence[Callable[[], None]]) -> None:
    """Close the page, and let the others stop meanwhile, which may take each of them seconds."""
    threads = [threading.Thread(target=stop) for stop in stops]
    for thread in threads:
        thread.start()
    page.close(verbose=False)
    for thread in threads:
        thread.join()


class EngineReport:
    """Tells the console how the engine's starts end.

    Flags that vLLM does not take end the app, by ``end``, when it starts. Later people are at the page, and
    may chat with other servers' models: then a start that fails is told, whatever the reason.
    """

    def __init__(self, engine_log: Path, end: Callable[[], None]) -> None:
        self.refused: ConfigError | None = None  # why the app had to end
        self._engine_log = engine_log
        self._end = end
        self._is_first = True

    def __call__(self, engine: InProcessEngine) -> None:
        """To be called after each change of the engine's state; of the first start the end is the first."""
        if engine.state is EngineState.READY:
            console.info("The model is ready.")
        elif self._is_first and isinstance(engine.error, ConfigError):
            self.refused = engine.error
            self._end()
        elif engine.error:
            console.error("%s\nThe page stays up. What vLLM wrote is in %s", engine.error, self._engine_log)
        self._is_first = False


def launch(
    page: gr.Blocks,
    settings: Settings,
    own_routes: Sequence[BaseRoute],
    uploads: Path,
    *,
    operators: Operators,
    accounts: Accounts | None = None,
    on_start: Callable[[], Coroutine[Any, Any, None]] | None = None,
) -> None:
    """Serve the page in a thread of its own; returns once it answers. ``on_start`` runs on its event loop."""
    if on_start is not None:
        page.extra_startup_events.append(on_start)
    # Gradio makes uvicorn's Config without a word about proxies, which then reads this variable.
    os.environ["FORWARDED_ALLOW_IPS"] = ",".join(settings.trusted_proxies)
    # Gradio would open the Space's second port, whose server takes code to reload from whoever asks.
    os.environ.pop("SYSTEM", None)
    in_space = "SPACE_ID" in os.environ
    space_host = os.environ.get("SPACE_HOST")
    hosts = known_hosts(settings.host, settings.allowed_hosts, space_host)
    named = frozenset(name.lower() for name in (*settings.allowed_hosts, space_host or "") if name)
    # Message and system prompt, in JSON's longest spelling of a character, and the rest of an event.
    max_bytes = 2 * 6 * settings.max_message_chars + 100_000
    page.queue(max_size=WAITING_EVENTS, default_concurrency_limit=CONCURRENT_EVENTS, api_open=False)
    page._queue.sleep_when_free = QUEUE_LOOK_S
    who = (
        Middleware(Login, tries=Tries(), keyed=api.PATHS if settings.api else ())
        if accounts
        else Middleware(OperatorLink, operators=operators, in_space=in_space)
    )
    # launch() rather than gr.mount_gradio_app: a mounted page that was never launched serves any
    # local file whose path is posted.
    page.launch(
        server_name=settings.host,
        server_port=settings.port,
        prevent_thread_lock=True,
        quiet=True,
        share=False,
        ssr_mode=False,
        run_history=False,  # it would write every message into the browser's storage
        enable_monitoring=False,
        show_error=False,
        mcp_server=False,
        auth=accounts.check if accounts else None,
        auth_message=LOGIN_NOTE if accounts else None,
        footer_links=[],
        state_session_capacity=SESSIONS,
        max_file_size=settings.max_file_mb * MEGA,  # the page's own check, before it uploads
        theme=theme(),
        head=HEAD,
        app_kwargs={
            "middleware": [
                Middleware(PageHeaders, in_space=in_space),
                Middleware(Guard, hosts=hosts, named=named),
                who,
                Middleware(PostedBodies, uploads=uploads, max_bytes=max_bytes),
            ],
            "routes": own_routes,
        },
    )
    # Else the first who asks for it says by a header under which address everybody is told to call.
    page.app.api_info = page.get_api_info()  # type: ignore[assignment]


def access_lines(settings: Settings, *, has_token: bool, has_api: bool) -> list[str]:
    """What the person who starts the app reads about who may do what."""
    lines = []
    if has_api:
        lines.append(f"OpenAI's API is at {address(settings)}{api.ROOT}, for whoever sends the key.")
    if settings.auth is None:
        return lines + [f"Operators open /?{QUERY}=… with the token of {FIXED_TOKEN}."] * has_token
    lines.append("People log in with the accounts of --auth; each of them is an operator.")
    if others_may_read(settings.auth):
        lines.append("Every user of this machine can read the passwords: run chmod 600 on the accounts file.")
    return lines


def hidden_lines(settings: Settings) -> list[str]:
    """What the person who starts the app reads of chats that are there and that nobody is shown."""
    if settings.keeps_history or not has_chats(settings.data_dir):
        return []
    return [
        f"Chats of before lie in {settings.data_dir.resolve()} and are not shown, as none are kept now. "
        "Start with --history on (SIGHTLINE_HISTORY=on) to show and keep them."
    ]


def address(settings: Settings) -> str:
    """Where people open the app."""
    space = os.environ.get("SPACE_HOST")
    return f"https://{space}" if space else link(settings.host, settings.port)


def link(host: str, port: int) -> str:
    """The address to open on this machine."""
    name = "localhost" if host in EVERYWHERE else f"[{host}]" if ":" in host else host
    return f"http://{name}:{port}"


def check_port(host: str, port: int) -> None:
    """Raise ConfigError where nothing can listen on this address."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except PermissionError as error:
            raise ConfigError(
                f"Port {port} needs more rights than you have.", "Choose another with --port."
            ) from error
        except OSError as error:
            raise ConfigError(
                f"Port {port} on {host} cannot be used; another program, or another Sightline, may have it.",
                f"Stop that one, or choose another port: --port {port + 1}.",
            ) from error
