"""Launching the page, waiting for the end, and stopping cleanly."""

import logging
import os
import signal
import socket
import threading
from collections.abc import Sequence
from pathlib import Path

import gradio as gr
from starlette.middleware import Middleware
from starlette.routing import BaseRoute

from backend.config import MEGA, Settings
from backend.errors import ConfigError
from backend.inprocess import InProcessEngine
from backend.replies import Replies
from backend.store import Store
from backend.types import EngineState
from backend.vllm_args import EnginePlan
from backend.vllm_log import prepare_log
from ui.chat import Chat, load_examples
from ui.layout import build, theme
from ui.middleware import Guard, PageHeaders, PostedBodies, known_hosts
from ui.routes import WEB, routes
from ui.uploads import Uploads

EXAMPLES = WEB.parent / "examples"
EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104 - compared, not bound
CONCURRENT_EVENTS = 16  # of a kind that answers at once, such as fetching an address
# The style sheet is linked, not passed to Gradio, which would rewrite its selectors.
HEAD = """
<link rel="icon" href="sightline/icon.svg">
<link rel="stylesheet" href="sightline/page.css">
<script src="sightline/page.js" defer></script>
"""

console = logging.getLogger("sightline")


def serve(settings: Settings, plan: EnginePlan) -> None:
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
    engine_log = prepare_log(settings.data_dir / "logs")
    store = Store.open(settings.data_dir)
    store.interrupt_unfinished()
    engine = InProcessEngine(plan, engine_log, idle_timeout_s=settings.idle_timeout_s, on_change=report)
    examples = load_examples(EXAMPLES) if plan.is_demo else ()
    uploads = Uploads(
        settings.data_dir / "uploads", settings.max_file_mb * MEGA, settings.max_images_per_message
    )
    uploads.sweep()
    chat = Chat(settings, store, engine, Replies(store, engine), uploads, (plan.model,), examples)
    page = build(chat, settings, is_demo=plan.is_demo)
    launch(page, settings, [*routes(store, engine), *uploads.routes()], uploads.folder)
    try:
        console.info("Sightline is at %s", link(settings.host, settings.port))
        console.info("Model: %s (%s). It loads now; the page shows how far it is.", plan.model, plan.reason)
        engine.start()
        stopped.wait()
        console.info("Stopping.")
    finally:
        engine_stop = threading.Thread(target=engine.stop)  # each may take seconds: both at once
        engine_stop.start()
        page.close(verbose=False)
        engine_stop.join()
        store.close()
    if isinstance(engine.error, ConfigError):
        raise engine.error


def launch(page: gr.Blocks, settings: Settings, own_routes: Sequence[BaseRoute], uploads: Path) -> None:
    """Serve the page in a thread of its own; returns once it answers."""
    in_space = "SPACE_ID" in os.environ
    space_host = os.environ.get("SPACE_HOST")
    hosts = known_hosts(settings.host, settings.allowed_hosts, space_host)
    named = frozenset(name.lower() for name in (*settings.allowed_hosts, space_host or "") if name)
    # Message and system prompt, in JSON's longest spelling of a character, and the rest of an event.
    max_bytes = 2 * 6 * settings.max_message_chars + 100_000
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
        max_file_size=settings.max_file_mb * MEGA,  # the page's own check, before it uploads
        theme=theme(),
        head=HEAD,
        app_kwargs={
            "middleware": [
                Middleware(PageHeaders, in_space=in_space),
                Middleware(Guard, hosts=hosts, named=named),
                Middleware(PostedBodies, uploads=uploads, max_bytes=max_bytes),
            ],
            "routes": own_routes,
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
