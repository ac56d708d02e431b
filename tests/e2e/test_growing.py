"""How a reply grows on the page: beside what was said before, before somebody who reads or scrolls."""

from playwright.sync_api import Route, expect

from .drawings import BLUE_SQUARE, RED_CIRCLE
from .visitor import Visitor

LOG = "#chat [role=log]"
BELOW = "box => box.scrollHeight - box.scrollTop - box.clientHeight"
# How far below a question its reply stands, of each frame in which there is one.
RECORD_PLACES = """asked => {
  window.places = [];
  const look = () => {
    const question = [...document.querySelectorAll("#chat [data-testid=user]")].at(-1);
    const reply = [...document.querySelectorAll("#chat [data-testid=bot]")].find(text =>
      question?.compareDocumentPosition(text) & Node.DOCUMENT_POSITION_FOLLOWING && text.querySelector("p"));
    if (reply && question.textContent.includes(asked))
      window.places.push(reply.getBoundingClientRect().y - question.getBoundingClientRect().y);
    requestAnimationFrame(look);
  };
  look();
}"""


def test_what_was_said_before_is_left_alone(visitor: Visitor) -> None:
    visitor.ask("What is in this picture?", {"red.png": RED_CIRCLE})
    visitor.page.evaluate("document.querySelector('#chat .user.message img').isTheSame = true")
    asked: list[str] = []
    visitor.page.on("request", lambda request: asked.append(request.url))

    visitor.send_for_endless_reply("Describe it in detail.")
    visitor.stop_button.click()
    expect(visitor.footers).to_have_count(2)
    expect(visitor.send_button).to_be_visible()

    assert visitor.page.evaluate("document.querySelector('#chat .user.message img').isTheSame")
    assert not [url for url in asked if "/img/" in url]
    assert len([url for url in asked if "/replies/" in url]) == 1


def test_nothing_moves_while_a_reply_grows_or_ends(visitor: Visitor) -> None:
    visitor.ask("What is in this picture?", {"blue.png": BLUE_SQUARE})
    visitor.page.evaluate(RECORD_PLACES, "in detail")

    visitor.ask("Describe this picture in detail.")

    places = visitor.page.evaluate("[...new Set(window.places.map(Math.round))]")
    assert places
    assert max(places) - min(places) <= 1, f"the reply stood at {places}"


def test_the_page_reads_along_unless_one_scrolls_away(visitor: Visitor) -> None:
    visitor.send_for_endless_reply("Describe this picture.", {"red.png": RED_CIRCLE})
    log = visitor.page.locator(LOG).first
    visitor.page.wait_for_function(f"({BELOW})(document.querySelector('{LOG}')) < 60")
    visitor.page.wait_for_function(
        "at => { const b = document.querySelector(at); return b.scrollTop > 600; }", arg=LOG
    )
    for _ in range(3):
        visitor.record_growth()
        visitor.wait_for_growth()
        # It follows a frame later.
        visitor.page.wait_for_function(f"({BELOW})(document.querySelector('{LOG}')) < 60")

    log.hover()
    visitor.page.mouse.wheel(0, -400)
    visitor.page.wait_for_function(f"({BELOW})(document.querySelector('{LOG}')) > 300")
    visitor.record_growth()
    visitor.wait_for_growth()
    before = log.evaluate("box => box.scrollTop")
    visitor.record_growth()
    visitor.wait_for_growth()
    assert log.evaluate("box => box.scrollTop") == before
    visitor.stop_button.click()
    expect(visitor.footers).to_have_text(["Stopped."])


def test_a_page_that_is_turned_away_follows_again(visitor: Visitor) -> None:
    turned_away: list[str] = []

    # Once: whoever cannot follow for the grace time has left, and a busy machine takes seconds for each try.
    def turn_away_once(route: Route) -> None:
        if not turned_away:
            turned_away.append(route.request.url)
            route.fulfill(status=503)
        else:
            route.continue_()

    visitor.expect_problems("503")
    visitor.page.route("**/replies/*", turn_away_once)
    visitor.send_for_endless_reply("Describe this picture.", {"red.png": RED_CIRCLE})
    assert len(turned_away) == 1
    visitor.stop_button.click()
    expect(visitor.footers).to_have_text(["Stopped."])


def test_a_reply_finds_its_place_again(visitor: Visitor) -> None:
    # As where Gradio makes the conversation anew, with all that was put into it.
    visitor.page.evaluate("document.querySelector('#growing').remove()")

    visitor.send_for_endless_reply("Describe this picture.", {"red.png": RED_CIRCLE})

    visitor.stop_button.click()
    expect(visitor.footers).to_have_text(["Stopped."])


def test_two_pages_show_the_same_reply(visitor: Visitor) -> None:
    visitor.send_for_endless_reply("Describe this picture.", {"red.png": RED_CIRCLE})
    other = visitor.context.new_page()
    other.goto(visitor.url)
    replies = other.locator("#growing [data-testid=bot]")
    expect(replies).to_have_count(1)
    expect(replies).not_to_be_empty()
    other.locator("#composer .stop-button").click()
    expect(visitor.footers).to_have_text(["Stopped."])
    expect(other.locator("#chat .reply-footer")).to_have_text(["Stopped."])
    assert other.locator("#chat [data-testid=bot]").first.inner_text() == visitor.replies.first.inner_text()
    other.close()
