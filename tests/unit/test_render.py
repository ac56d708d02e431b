"""What the page shows of chats and replies."""

import json
import time
from datetime import UTC, datetime
from html.parser import HTMLParser
from typing import Any

import pytest

from backend.errors import ImageError
from backend.replies import Draft
from backend.types import (
    Capabilities,
    ChatInfo,
    EngineState,
    ImageRef,
    MessageStatus,
    ModelInfo,
    Stats,
    StoredMessage,
)
from ui import render

HOSTILE = "<img src=x onerror='alert(1)'>\"&</small></p></span><script>"
NOW = datetime(2026, 1, 1, tzinfo=UTC)
CAT = ImageRef("c" * 64, "image/jpeg", 40, 30, HOSTILE)


def stored(**changed: Any) -> StoredMessage:
    values: dict[str, Any] = {
        "id": "1",
        "position": 0,
        "role": "user",
        "text": "",
        "reasoning": "",
        "images": (),
        "status": MessageStatus.COMPLETE,
        "stats": None,
        "model": "demo",
        "error": "",
        "created_at": NOW,
    }
    return StoredMessage(**(values | changed))


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def read(html: str) -> _Tags:
    reader = _Tags()
    reader.feed(html)
    reader.close()
    return reader


def tags(html: str) -> set[str]:
    return {tag for tag, _ in read(html).tags}


def texts(shown: list[dict[str, Any]]) -> list[str]:
    return [part.get("text", "") for message in shown for part in message["content"]]


def footer_of(draft: Draft) -> str:
    return texts(render.reply(draft))[-1]


# Hostile words in our own HTML


@pytest.mark.parametrize(
    ("html", "own"),
    [
        (render.notice(HOSTILE), {"p"}),
        (render.added([HOSTILE]), {"p"}),
        (render.refusals([ImageError(HOSTILE, "No."), ImageError("What?", HOSTILE)]), {"p", "br"}),
        (render.waiting(Capabilities(EngineState.LOADING, stage=HOSTILE, state_s=5)), {"span"}),
        (render.footer(Draft("A", status=MessageStatus.FAILED, error=HOSTILE)), {"small"}),
    ],
)
def test_words_of_others_are_no_tags(html: str, own: set[str]) -> None:
    assert tags(html) == own
    assert "<img src=x onerror='alert(1)'>".lower() in read(html).text.lower()


@pytest.mark.parametrize("html", [render.notice('" onclick="x'), render.added(['" onclick="x'])])
def test_quotes_open_no_attribute(html: str) -> None:
    ((_, attributes),) = read(html).tags

    assert "onclick" not in attributes


# Messages


def test_a_question_shows_its_pictures_then_its_text() -> None:
    dog = ImageRef("d" * 64, "image/png", 1, 1, "dog.png")

    (shown,) = render.question(stored(text="Which?", images=(CAT, dog)))

    assert shown["role"] == "user"
    assert [part["type"] for part in shown["content"]] == ["file", "file", "text"]
    assert shown["content"][1] == {
        "type": "file",
        "file": {
            "url": f"img/{dog.sha256}?size=small",
            "mime_type": "image/png",
            "orig_name": "dog.png",
        },
        "alt_text": "dog.png",
    }
    assert shown["content"][2] == {"type": "text", "text": "Which?"}


def test_a_question_of_pictures_alone_has_no_text() -> None:
    (shown,) = render.question(stored(images=(CAT,)))

    assert [part["type"] for part in shown["content"]] == ["file"]


def test_a_persons_words_are_shown_as_they_are() -> None:
    assert texts(render.question(stored(text=HOSTILE))) == [HOSTILE]


def keys(value: object) -> set[str]:
    if isinstance(value, dict):
        return set(value) | {key for part in value.values() for key in keys(part)}
    return {key for part in value for key in keys(part)} if isinstance(value, list) else set()


def test_files_carry_no_meta_and_no_path_that_would_make_gradio_look_at_them() -> None:
    shown = render.conversation(
        [stored(text="Which?", images=(CAT,)), stored(role="assistant", text="A cat.")]
    )
    example = render.example_picture("shapes.png")

    for files in (shown, example):
        assert not keys(files) & {"meta", "path"}
        assert "url" in keys(files)


def test_an_example_is_shown_from_our_own_route() -> None:
    example = render.example_picture("shapes.png")

    assert (example["url"], example["orig_name"]) == ("sightline/examples/shapes.png", "shapes.png")


def test_a_conversation_shows_all_its_messages_in_order() -> None:
    shown = render.conversation(
        [stored(text="One?"), stored(role="assistant", text="One."), stored(text="Two?")]
    )

    assert [(message["role"], texts([message])[0]) for message in shown if texts([message])[0][0] != "<"] == [
        ("user", "One?"),
        ("assistant", "One."),
        ("user", "Two?"),
    ]


def test_a_stored_reply_looks_like_the_one_that_was_growing() -> None:
    stats = Stats("stop", 1, 2, 0.5, 1.0)
    message = stored(
        role="assistant", text="A", reasoning="B", status=MessageStatus.INTERRUPTED, stats=stats, error="C"
    )

    assert render.conversation([message]) == render.reply(
        Draft("A", "B", MessageStatus.INTERRUPTED, stats, "C")
    )


# A reply as it grows


def test_a_reply_without_words_is_waited_for() -> None:
    (shown,) = render.reply(Draft())

    assert shown["role"] == "assistant"
    assert "thinking" in texts([shown])[0]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.4, "just begun"), (12.6, "13 s")],
)
def test_while_the_model_loads_the_reply_says_how_far_it_is(seconds: float, words: str) -> None:
    loading = Capabilities(EngineState.LOADING, stage="Loading the weights", state_s=seconds)

    (html,) = texts(render.reply(Draft(), loading))

    assert f"(Loading the weights, {words})" in html


def test_an_answer_that_goes_on_stays_in_sight_while_the_rest_is_waited_for() -> None:
    waiting = texts(render.reply(Draft()))
    in_line = texts(render.reply(Draft(place=3)))

    assert texts(render.reply(Draft("A red", cut=5))) == ["A red", *waiting]
    assert texts(render.reply(Draft("A red", cut=5, place=3))) == ["A red", *in_line]
    assert texts(render.reply(Draft("A red circle", cut=5))) == ["A red circle"]
    assert render.growth(render.reply(Draft("A red", cut=5)), render.reply(Draft("A red circle", cut=5))) == {
        "messages": render.reply(Draft("A red circle", cut=5))
    }


def test_each_row_says_what_can_be_done_with_it() -> None:
    said = [
        stored(id="q", images=(CAT, CAT), versions=("p", "q")),
        stored(id="r", role="assistant", text="A", status=MessageStatus.CANCELLED, versions=("r",)),
        stored(id="q2", text="one"),
        stored(id="q3", images=(CAT,), left_out=True),
        stored(id="r3", role="assistant", text="B", status=MessageStatus.INTERRUPTED),
    ]

    first, second, third, last = json.loads(render.rows(said))

    assert (first["id"], first["versions"], first["cut"]) == ("q", ["p", "q"], False)
    assert [picture["picture"] for picture in first["pictures"]] == [0, 1]
    assert (second["versions"], second["cut"]) == ([], False)  # only the last goes on
    assert (third["id"], third["of"], third["leftOut"]) == ("q3", ["q2", "q3"], False)
    assert third["pictures"] == [{"name": HOSTILE, "of": ["q3"], "picture": 0, "leftOut": False}]
    assert (last["role"], last["cut"]) == ("assistant", True)
    assert render.rows([]) == "[]"


def test_a_model_that_is_ready_is_not_said_to_load() -> None:
    assert texts(render.reply(Draft(), Capabilities(EngineState.READY))) == texts(render.reply(Draft()))


def test_the_first_words_take_the_place_of_waiting() -> None:
    loading = Capabilities(EngineState.LOADING, stage="Loading")

    assert texts(render.reply(Draft("A "), loading)) == ["A "]


@pytest.mark.parametrize(
    ("draft", "title", "status"),
    [
        (Draft(reasoning="Fur."), "Thinking", "pending"),
        (Draft("A", reasoning="Fur."), "Thoughts", "done"),
        (Draft(reasoning="Fur.", status=MessageStatus.CANCELLED), "Thoughts", "done"),
    ],
)
def test_reasoning_folds_once_it_is_done(draft: Draft, title: str, status: str) -> None:
    first = render.reply(draft)[0]

    assert first["metadata"] == {"title": title, "status": status}
    assert texts([first]) == ["Fur."]


# What became of it


@pytest.mark.parametrize(
    ("status", "error", "words", "broken"),
    [
        (MessageStatus.COMPLETE, "", "", False),
        (MessageStatus.CANCELLED, "", "Stopped.", False),
        (MessageStatus.INTERRUPTED, "", "Interrupted. This answer broke off before its end.", True),
        (MessageStatus.INTERRUPTED, "The disk is full.", "Interrupted. The disk is full.", True),
        (MessageStatus.FAILED, "", "No answer came.", True),
        (MessageStatus.FAILED, "The model died.", "The model died.", True),
    ],
)
def test_the_footer_says_what_became_of_a_reply(
    status: MessageStatus, error: str, words: str, broken: bool
) -> None:
    footer = footer_of(Draft("A", status=status, error=error))

    assert read(footer).text == words
    (_, attributes), *marks = read(footer).tags
    assert [tag for tag, _ in marks] == ["b"] * (status is MessageStatus.INTERRUPTED)
    classes = (attributes["class"] or "").split()
    assert render.FOOTER_CLASS in classes
    assert ("broken" in classes) is broken


def test_a_growing_reply_has_no_footer() -> None:
    assert texts(render.reply(Draft("A", "B"))) == ["B", "A"]


@pytest.mark.parametrize(
    ("stats", "figures"),
    [
        (Stats("stop", 9, 1_201, 0.254, 6.254), "1,201 tokens (9 read) · first after 0.25 s · 200 tokens/s"),
        (Stats("stop", 9, 20, 0.25, 1.2), "20 tokens (9 read) · first after 0.25 s · 20 tokens/s"),
        (Stats("stop", 9, 19, 0.25, 1.15), "19 tokens (9 read) · first after 0.25 s"),
        (Stats("stop", 9, 1, 0.25, 0.25), "1 token (9 read) · first after 0.25 s"),
        (Stats("length", 9, 16, None, 2.0), "16 tokens (9 read) · cut at the token limit"),
        (Stats("stop", 900, 16, estimated=True), "about 16 tokens (900 read)"),
        (Stats("stop", 9, 2, ignored="seed"), "2 tokens (9 read) · this model does not take: seed"),
        (Stats("stop", None, None, 0.5, 2.0), "first after 0.50 s"),
        (Stats("stop"), ""),
    ],
)
def test_the_footer_says_what_a_reply_cost(stats: Stats, figures: str) -> None:
    footer = footer_of(Draft("A", status=MessageStatus.COMPLETE, stats=stats))

    assert read(footer).text == figures


def test_what_went_wrong_stands_before_the_figures() -> None:
    footer = footer_of(Draft("A", status=MessageStatus.CANCELLED, stats=Stats("stop", 9, 2)))

    assert read(footer).text == "Stopped. · 2 tokens (9 read)"


# Notices and lists


def test_no_refusals_are_no_notice() -> None:
    assert render.refusals([]) == ""


def test_each_refusal_has_a_line_with_both_sentences() -> None:
    html = render.refusals(
        [ImageError("“a” is broken.", "Save it."), ImageError("“b” is large.", "Reduce it.")]
    )

    assert "“a” is broken. Save it.<br>“b” is large. Reduce it." in html


def test_chats_are_listed_by_title() -> None:
    assert render.chat_choices([ChatInfo("id", "Title", NOW, 2)]) == [("Title", "id")]


def test_a_reply_that_a_crash_left_streaming_is_shown_as_broken_off() -> None:
    (begun, footer) = render.conversation(
        [stored(role="assistant", text="A red", status=MessageStatus.STREAMING)]
    )

    assert texts([begun]) == ["A red"]
    assert "broke off" in texts([footer])[0]


# Models


def test_the_menu_names_servers_only_where_there_are_several_sources() -> None:
    one = [ModelInfo("a", "lab"), ModelInfo("b", "lab")]

    assert render.menu(one, "", None) == ([("a", "a @ lab"), ("b", "b @ lab")], "a @ lab")
    assert render.menu([ModelInfo("own"), *one], "", None)[0] == [
        ("own", "own"),
        ("a @ lab", "a @ lab"),
        ("b @ lab", "b @ lab"),
    ]


@pytest.mark.parametrize(
    ("chosen", "default", "stands_on"),
    [("", None, "a"), ("", "b", "b"), ("", "gone", "a"), ("b", "a", "b"), ("gone", "b", "gone")],
)
def test_the_menu_stands_on_what_was_chosen_then_on_the_default(
    chosen: str, default: str | None, stands_on: str
) -> None:
    choices, name = render.menu([ModelInfo("a"), ModelInfo("b")], chosen, default)

    assert name == stands_on
    assert name in [value for _, value in choices]


def test_an_empty_menu_stands_on_nothing() -> None:
    assert render.menu([], "", "a") == ([], "")


@pytest.mark.parametrize(
    ("model", "facts"),
    [
        (ModelInfo("a"), "Context length unknown"),
        (
            ModelInfo("a", context_length=131072, image_limit=4),
            "Reads up to 131,072 tokens · 4 pictures per chat",
        ),
        (ModelInfo("a", context_length=9, image_limit=1), "Reads up to 9 tokens · 1 picture per chat"),
        (
            ModelInfo("a", image_limit=0, reasoning=True),
            "Context length unknown · takes no pictures · reasons",
        ),
        (ModelInfo("a", reasoning=False, video=False, image_limit=999), "Context length unknown"),
        (
            ModelInfo("a", video=True, box_dialect="qwen"),
            "Context length unknown · sees video · boxes as qwen",
        ),
    ],
)
def test_what_is_unknown_of_a_model_is_not_guessed(model: ModelInfo, facts: str) -> None:
    assert read(render.model_facts(model)).text == facts


def test_a_models_name_cannot_write_into_the_page() -> None:
    facts = render.model_facts(ModelInfo('"><img src=x>', "<lab>"))

    assert "<img" not in facts
    assert 'data-model="&quot;&gt;&lt;img' in facts
    assert 'data-source="&lt;lab&gt;"' in facts
    assert render.model_facts(None) == ""


def test_what_is_to_be_said_of_a_model_stands_below_its_facts() -> None:
    facts = render.model_facts(ModelInfo("m", remarks=("A base model: it continues <text>.",)))

    assert facts.endswith("<p>A base model: it continues &lt;text&gt;.</p>")


def test_a_busy_server_is_waited_for_visibly() -> None:
    (counting,) = texts(render.reply(Draft(retry_at=time.monotonic() + 6.5)))
    (asking,) = texts(render.reply(Draft(retry_at=time.monotonic() - 1)))

    assert "once more in 7 s" in counting
    assert "thinking" in asking


@pytest.mark.parametrize(
    ("before", "after", "tail"),
    [
        (Draft("A "), Draft("A cat."), "cat."),
        (Draft("A cat.", "Fur."), Draft("A cat. Yes", "Fur."), " Yes"),
        (Draft(reasoning="Fur"), Draft(reasoning="Fur. Paws."), ". Paws."),
        (Draft("A cat."), Draft("A cat."), ""),
    ],
)
def test_of_a_text_that_has_grown_the_tail_is_told(before: Draft, after: Draft, tail: str) -> None:
    assert render.growth(render.reply(before), render.reply(after)) == {"tail": tail}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (Draft(), Draft("A cat.")),
        (Draft(reasoning="Fur."), Draft("A cat.", "Fur.")),
        (Draft("A cat.", "Fur."), Draft("A cat.", "Fur. Paws.")),
        (Draft("A cat."), Draft("A dog.")),
        (Draft("A cat."), Draft("A cat.", status=MessageStatus.COMPLETE)),
        (Draft(place=2), Draft(place=1)),
    ],
)
def test_where_more_has_changed_all_of_it_is_told(before: Draft, after: Draft) -> None:
    now = render.reply(after)

    assert render.growth(render.reply(before), now) == {"messages": now}
    assert render.growth([], now) == {"messages": now}
