"""Launching the page, waiting for the end, and stopping cleanly."""

import logging
import os
import signal
import socket
import threading
from pathlib import Path

import gradio as gr
from starlette.middleware import Middleware

from backend.config import MEGA, Settings
from backend.errors import ConfigError
from backend.inprocess import InProcessEngine
from backend.replies import Replies
from backend.store import Store
from backend.types import EngineState
from backend.vllm_args import EnginePlan
from ui.chat import Chat, load_examples
from ui.layout import build, theme
from ui.middleware import Guard, PageHeaders, known_hosts
from ui.routes import WEB, routes

EXAMPLES = WEB.parent / "examples"
EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104 - compared, not bound
CONCURRENT_EVENTS = 16  # of a kind that answers at once, such as fetching an address
HEAD = '<link rel="icon" href="sightline/icon.svg"><script src="sightline/page.js" defer></script>'

console = logging.getLogger("sightline")


def serve(settings: Settings, plan: EnginePlan, engine_log: Path) -> None:
    """Run the app until SIGINT or SIGTERM. The page answers before the engine begins to load.

    Raises:
        ConfigError: the port is taken, or vLLM does not take its flags.
        StoreError: the data folder cannot be used.
    """
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())

    def report(engine: InProcessEngine) -> None:
        if engine.state is EngineState.READY:
            console.info("The model is ready.")
        elif isinstance(engine.error, ConfigError):
            stopped.set()
        elif engine.error:
            console.error("%s\nThe page stays up. What vLLM wrote is in %s", engine.error, engine_log)

    check_port(settings.host, settings.port)
    store = Store.open(settings.data_dir)
    store.interrupt_unfinished()
    engine = InProcessEngine(plan, engine_log, idle_timeout_s=settings.idle_timeout_s, on_change=report)
    examples = load_examples(EXAMPLES) if plan.is_demo else ()
    chat = Chat(settings, store, engine, Replies(store, engine), settings.data_dir / "uploads", examples)
    page = build(chat, settings, [plan.model], is_demo=plan.is_demo)
    launch(page, settings, store, engine)
    try:
        console.info("Sightline is at %s", link(settings.host, settings.port))
        console.info("Model: %s (%s). It loads now; the page shows how far it is.", plan.model, plan.reason)
        engine.start()
        stopped.wait()
        console.info("Stopping.")
    finally:
        engine.stop()
        page.close(verbose=False)
        store.close()
    if isinstance(engine.error, ConfigError):
        raise engine.error


def launch(page: gr.Blocks, settings: Settings, store: Store, engine: InProcessEngine) -> None:
    """Serve the page in a thread of its own; returns once it answers."""
    in_space = "SPACE_ID" in os.environ
    hosts = known_hosts(settings.host, settings.allowed_hosts, os.environ.get("SPACE_HOST"))
    page.queue(max_size=settings.queue_length, default_concurrency_limit=CONCURRENT_EVENTS, api_open=False)
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
        footer_links=[],
        max_file_size=settings.max_file_mb * MEGA,
        theme=theme(),
        css_paths=[WEB / "page.css"],
        head=HEAD,
        app_kwargs={
            "middleware": [Middleware(PageHeaders, in_space=in_space), Middleware(Guard, hosts=hosts)],
            "routes": routes(store, engine),
        },
    )


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
