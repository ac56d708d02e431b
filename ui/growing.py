"""The replies that grow, on their way to the pages that show them: server-sent events (WHATWG HTML, 9.2).

``/replies/CHAT`` tells what stands in the place of the reply, and then how it grows: the tail of the text,
not the whole, whatever was said before it. Gradio's own events would cost some milliseconds each, more than
all else that is done for a token, and look only every now and then whether there is something to send.
"""

import json
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from backend.replies import Draft, Replies, Reply
from backend.router import Router
from ui import render
from ui.visitors import owner_behind

KEEP_ALIVE_S = 15.0  # proxies close connections on which nothing comes for a minute
# "no" to nginx, which would collect what comes.
HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
END = "event: end\ndata:\n\n"


async def show(reply: Reply, draft: Draft, router: Router) -> list[render.Json]:
    """What stands in the place of a reply: itself, or how far the engine is that it waits for."""
    waits = draft.waits and not draft.place
    return render.reply(draft, await router.capabilities_of(reply.model) if waits else None)


async def events(reply: Reply, router: Router) -> AsyncGenerator[str, None]:
    """What a page is told. One that reads slowly is told more at a time: tails begin where the last ended."""
    shown: list[render.Json] = []
    told_at = 0.0
    async with aclosing(reply.watch()) as drafts:
        async for draft in drafts:
            now = await show(reply, draft, router)
            if now != shown:
                yield f"data: {json.dumps(render.growth(shown, now))}\n\n"
                shown, told_at = now, time.monotonic()
            elif time.monotonic() - told_at >= KEEP_ALIVE_S:
                yield ":\n\n"
                told_at = time.monotonic()
    yield END


def routes(replies: Replies, router: Router) -> list[BaseRoute]:
    async def growing(request: Request) -> Response:
        """The reply that grows in one of the visitor's own chats; where none does, 204 ends EventSource."""
        owner = owner_behind(request)
        reply = replies.growing(owner, request.path_params["chat_id"]) if owner else None
        if reply is None:
            return Response(status_code=204, headers=HEADERS)
        return StreamingResponse(events(reply, router), media_type="text/event-stream", headers=HEADERS)

    return [Route("/replies/{chat_id}", growing)]
