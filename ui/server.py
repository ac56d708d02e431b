"""The server around the page: its own routes, the launch, and a clean stop."""

import os
import socket
from pathlib import Path

from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from backend.config import MEGA, Settings
from backend.engine import Engine
from backend.errors import ConfigError, NotFoundError
from backend.store import Store
from backend.types import Capabilities, EngineState
from ui.chat import Chat
from ui.layout import build, theme
from ui.middleware import Guard, PageHeaders, known_hosts
from ui.visitors import owner_of

ASSETS = Path(__file__).resolve().parents[1] / "assets"
EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104 - compared, not bound
HEAD = '<link rel="icon" href="sightline/icon.svg"><script src="sightline/page.js" defer></script>'


class Server:
    """The page on its port. ``start`` returns once it answers."""

    def __init__(
        self, settings: Settings, chat: Chat, store: Store, engine: Engine, model: str, *, is_demo: bool
    ) -> None:
        self._settings = settings
        self._page = build(chat, settings, [model], is_demo=is_demo)
        self._routes = _routes(store, engine)

    def start(self) -> str:
        """Serve; returns the link.

        Raises:
            ConfigError: the port is taken, or the address is not this machine's.
        """
        settings = self._settings
        check_port(settings.host, settings.port)
        in_space = "SPACE_ID" in os.environ
        hosts = known_hosts(settings.host, settings.allowed_hosts, os.environ.get("SPACE_HOST"))
        self._page.queue(max_size=settings.queue_length, api_open=False)
        self._page.launch(
            server_name=settings.host,
            server_port=settings.port,
            prevent_thread_lock=True,
            quiet=True,
            share=False,
            ssr_mode=False,
            run_history=False,
            enable_monitoring=False,
            show_error=False,
            mcp_server=False,
            footer_links=[],
            max_file_size=settings.max_file_mb * MEGA,
            theme=theme(),
            css_paths=[ASSETS / "web" / "page.css"],
            head=HEAD,
            favicon_path=None,
            app_kwargs={
                "middleware": [
                    Middleware(Guard, hosts=hosts),
                    Middleware(PageHeaders, in_space=in_space),
                ],
                "routes": self._routes,
            },
        )
        name = "localhost" if settings.host in EVERYWHERE else settings.host
        return f"http://{name}:{settings.port}"

    def stop(self) -> None:
        """Stop serving."""
        self._page.close(verbose=False)


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


def words(engine: Capabilities) -> str:
    """The engine's state for a person, in a few words."""
    match engine.state:
        case EngineState.READY:
            return f"{engine.models[0].rsplit('/')[-1] if engine.models else 'Model'} is ready"
        case EngineState.LOADING:
            return f"Loading the model: {engine.stage.lower()}, {engine.state_s:.0f} s"
        case EngineState.FAILED:
            return f"The model failed to start. {engine.stage}"
        case EngineState.STOPPED:
            return "The model is stopped"


def _routes(store: Store, engine: Engine) -> list[Route | Mount]:
    async def healthz(request: Request) -> Response:
        """Whether the page answers."""
        return PlainTextResponse("ok")

    async def readyz(request: Request) -> Response:
        """Whether an engine can answer; the state either way."""
        now = await engine.capabilities()
        body = {
            "state": now.state,
            "stage": now.stage,
            "seconds": round(now.state_s, 1),
            "models": now.models,
        }
        return JSONResponse(body, 200 if now.state is EngineState.READY else 503)

    async def status(request: Request) -> Response:
        """The same for the page, which asks all the time: never an error in the browser's console."""
        now = await engine.capabilities()
        return JSONResponse({"state": now.state, "words": words(now)})

    async def picture(request: Request) -> Response:
        """A picture of one of the visitor's own chats."""
        owner = owner_of(request.cookies)
        if owner is None:
            return PlainTextResponse("Not found", 404)
        try:
            found, data = await run_in_threadpool(store.image_bytes, owner, request.path_params["sha256"])
        except NotFoundError:
            return PlainTextResponse("Not found", 404)
        # Named by its content, it never changes; "private" keeps it out of shared caches.
        return Response(
            data,
            media_type=found.media_type,
            headers={"Cache-Control": "private, max-age=31536000, immutable"},
        )

    return [
        Route("/healthz", healthz),
        Route("/readyz", readyz),
        Route("/status", status),
        Route("/img/{sha256}", picture),
        Mount("/sightline", StaticFiles(directory=ASSETS / "web")),
    ]
