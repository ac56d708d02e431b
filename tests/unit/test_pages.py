"""Which handler may paint a page."""

from types import SimpleNamespace
from typing import Any, cast

import gradio as gr

from ui.pages import Pages


def page(session: str | None) -> gr.Request:
    return cast(gr.Request, cast(Any, SimpleNamespace(session_hash=session)))


def test_the_handler_that_began_last_paints() -> None:
    pages = Pages()

    first = pages.turn(page("a"))
    assert first()
    second = pages.turn(page("a"))

    assert (first(), second()) == (False, True)


def test_pages_do_not_disturb_each_other() -> None:
    pages = Pages()

    first, second = pages.turn(page("a")), pages.turn(page("b"))

    assert first()
    assert second()


def test_nobody_paints_a_page_that_was_closed() -> None:
    pages = Pages()
    closed, other = pages.turn(page("a")), pages.turn(page("b"))

    pages.forget(page("a"))
    pages.forget(page("never opened"))

    assert (closed(), other()) == (False, True)


def test_a_request_without_a_session_is_a_page_too() -> None:
    pages = Pages()

    shown = pages.turn(page(None))
    assert shown()
    pages.forget(page(None))

    assert not shown()
