"""The app's own routes: health, the engine's state, and the pictures of a visitor's chats."""

from pathlib import Path

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from backend.engine import Engine
from backend.errors import NotFoundError
from backend.store import Store
from backend.types import Capabilities, EngineState
from ui.visitors import owner_of

WEB = Path(__file__).resolve().parents[1] / "assets" / "web"
# Named by its content a picture never changes; "private" keeps it out of shared caches.
FOR_EVER = {"Cache-Control": "private, max-age=31536000, immutable"}


def words(engine: Capabilities) -> str:
    """The engine's state for a person, in a few words."""
    match engine.state:
        case EngineState.READY:
            return "Ready: " + (engine.models[0].rsplit("/")[-1] if engine.models else "model")
        case EngineState.LOADING:
            return f"Loading: {engine.stage}, {engine.state_s:.0f} s"
        case EngineState.FAILED:
            return f"The model failed to start. {engine.stage}"
        case EngineState.STOPPED:
            return "The model is stopped"


def routes(store: Store, engine: Engine) -> list[BaseRoute]:
    """All of them; they come before Gradio's."""

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
        return Response(data, media_type=found.media_type, headers=FOR_EVER)

    return [
        Route("/healthz", healthz),
        Route("/readyz", readyz),
        Route("/status", status),
        Route("/img/{sha256}", picture),
        Mount("/sightline/examples", StaticFiles(directory=WEB.parent / "examples")),
        Mount("/sightline", StaticFiles(directory=WEB)),
    ]
