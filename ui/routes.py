"""The app's own routes: health, the engine's state, figures, and the pictures of a visitor's chats."""

import asyncio
from pathlib import Path

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from backend.catalogue.download import with_time
from backend.errors import LimitError, NotFoundError
from backend.metrics import MEDIA_TYPE, Metrics
from backend.router import Router
from backend.store import Store
from backend.types import Capabilities, EngineState
from backend.vllm_args import DEMO_MODEL
from ui.operators import Operators
from ui.visitors import owner_behind

WEB = Path(__file__).resolve().parents[1] / "assets" / "web"
DEMO_CARD = DEMO_MODEL / "README.md"
# Named by its content a picture never changes; "private" keeps it out of shared caches.
FOR_EVER = {"Cache-Control": "private, max-age=31536000, immutable"}


def words(now: Capabilities) -> str:
    """How far the engine of a model is, for a person, in a few words."""
    model = now.models[0] if now.models else None
    match now.state:
        case EngineState.READY:
            return f"Ready: {model.id.rsplit('/')[-1]}" if model else "No model to choose"
        case EngineState.LOADING | EngineState.FAILED if model is None or model.source:
            return now.stage
        case EngineState.LOADING:
            told = with_time(now.stage, now.state_s)
            return told if told == now.stage else f"Loading: {told}"
        case EngineState.FAILED:
            return f"The model failed to start. {now.stage}"
        case EngineState.STOPPED:
            return "The model is stopped"


def routes(store: Store, router: Router, operators: Operators, metrics: Metrics) -> list[BaseRoute]:
    """All of them; they come before Gradio's."""

    async def healthz(request: Request) -> Response:
        """Whether the page answers."""
        return PlainTextResponse("ok")

    async def readyz(request: Request) -> Response:
        """Whether an engine can answer; the state either way."""
        now = await router.capabilities()
        body = {
            "state": now.state,
            "stage": now.stage,
            "seconds": round(now.state_s, 1),
            "models": [model.name for model in now.models],
        }
        return JSONResponse(body, 200 if now.state is EngineState.READY else 503)

    async def status(request: Request) -> Response:
        """The state of one model for the page, which asks all the time: never an error in its console.

        ``menu`` changes when the menu of models does.
        """
        everything = await router.capabilities()
        name = request.query_params.get("model")
        now = await router.capabilities_of(name) if name else everything
        menu = f"{hash(everything.models):x}"  # cheap: every page asks every second
        return JSONResponse({"state": now.state, "words": words(now), "menu": menu})

    def full(owner: str, sha256: str) -> tuple[str, bytes]:
        found, data = store.image_bytes(owner, sha256)
        return found.media_type, data

    async def picture(request: Request) -> Response:
        """A picture of one of the visitor's own chats; with ``?size=small`` as the conversation shows it."""
        owner = owner_behind(request)
        if owner is None:
            return PlainTextResponse("Not found", 404)
        try:
            read = store.thumbnail if request.query_params.get("size") == "small" else full
            media_type, data = await run_in_threadpool(read, owner, request.path_params["sha256"])
        except NotFoundError:
            return PlainTextResponse("Not found", 404)
        return Response(data, media_type=media_type, headers=FOR_EVER)

    async def demo_card(request: Request) -> Response:
        """What the demo model can do, and how it was made."""
        return FileResponse(DEMO_CARD, media_type="text/plain; charset=utf-8")

    async def figures(request: Request) -> Response:
        """What is counted here, for operators and their Prometheus."""
        try:
            allowed = operators.includes(request)
        except LimitError as error:
            return PlainTextResponse(str(error), 429)
        if not allowed:
            return PlainTextResponse("Only an operator sees this.", 403)
        metrics.running(len(asyncio.all_tasks()))
        text = await run_in_threadpool(metrics.text)
        return Response(text, media_type=MEDIA_TYPE, headers={"Cache-Control": "no-store"})

    return [
        Route("/healthz", healthz),
        Route("/metrics", figures),
        Route("/readyz", readyz),
        Route("/status", status),
        Route("/img/{sha256}", picture),
        Route("/sightline/demo-model", demo_card),
        Mount("/sightline/examples", StaticFiles(directory=WEB.parent / "examples")),
        Mount("/sightline", StaticFiles(directory=WEB)),
    ]
