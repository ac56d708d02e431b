"""Which handler may paint a page: the one that began last.

A person who turns to another chat while a handler still reads the one they have left starts a second for
the same page. Gradio can cancel the first, but only by a request of its own, which arrives after the second
has begun.
"""

from collections.abc import Callable

import gradio as gr


class Pages:
    """The newest handler of each open page, by Gradio's session."""

    def __init__(self) -> None:
        self._newest: dict[str, object] = {}

    def turn(self, request: gr.Request) -> Callable[[], bool]:
        """Begin to paint this page; the function that is returned says whether nobody has begun since."""
        session, mine = request.session_hash or "", object()
        self._newest[session] = mine
        return lambda: self._newest.get(session) is mine

    def now(self, request: gr.Request) -> Callable[[], bool]:
        """Paint this page without having begun anything; the function says whether nobody has begun since."""
        session = request.session_hash or ""
        newest = self._newest.get(session)
        return lambda: self._newest.get(session) is newest

    def forget(self, request: gr.Request) -> None:
        """The page was closed."""
        self._newest.pop(request.session_hash or "", None)
