"""How much of a model's context a chat takes: what the server counted, and guesses elsewhere."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from backend.context import Draft, Use, earlier_pictures, measure, oldest_turns
from backend.engine_sentences import is_too_much
from backend.types import ImageRef, MessageStatus, ModelInfo, Stats, StoredMessage, Vision

MODEL = ModelInfo("some-model", context_length=1000, image_limit=3)
WORDS = "word" * 40  # 40 tokens by the rule of thumb, and 4 around a message


def image(width: int = 280, height: int = 280, *, left_out: bool = False) -> ImageRef:
    return ImageRef("0" * 64, "image/jpeg", width, height, "cat.jpg", left_out)


def question(name: str, *images: ImageRef, text: str = WORDS, left_out: bool = False) -> StoredMessage:
    now = datetime.now(UTC)
    status = MessageStatus.COMPLETE
    return StoredMessage(
        name, 0, "user", text, "", images, status, None, "some-model", "", now, (name,), left_out
    )


def reply(name: str, stats: Stats | None = None, **changes: object) -> StoredMessage:
    return replace(question(name), role="assistant", stats=stats, **changes)  # type: ignore[arg-type]


COUNTED = Stats("stop", 300, 20)


def test_a_new_message_is_measured_part_by_part() -> None:
    use = measure((), Draft(WORDS, ((280, 280), (28, 56)), WORDS), MODEL)

    assert use == Use(44, (100, 2), 44, 0, 1000, 3, counted=False)
    assert use.total == 190


def test_pictures_are_counted_by_the_rule_of_their_model() -> None:
    exact = replace(MODEL, vision=Vision(1024, 16))

    assert measure((), Draft(sizes=((64, 32),)), exact).pictures == (10,)


def test_what_the_server_counted_is_believed() -> None:
    said = [question("q", image()), reply("r", COUNTED)]

    use = measure(said, Draft(system=WORDS), MODEL)

    assert (use.chat, use.chat_pictures, use.counted) == (320, 1, True)
    assert not measure(said, Draft("More"), MODEL).counted


def test_what_came_since_is_added() -> None:
    said = [question("q"), reply("r", COUNTED), question("q2", image()), reply("r2", text="")]

    use = measure(said, Draft(), MODEL)

    assert (use.chat, use.counted) == (320 + 44 + 100, False)


@pytest.mark.parametrize(
    "last",
    [
        reply("r", replace(COUNTED, estimated=True)),
        reply("r", Stats("stop", None, 20)),
        reply("r", Stats("stop", 300, None)),
        reply("r", COUNTED, model="another"),
        reply("r", COUNTED, reasoning="Which is not sent again."),
        reply("r", None),
    ],
)
def test_other_counts_are_not_believed(last: StoredMessage) -> None:
    use = measure([question("q", image()), last], Draft(system=WORDS), MODEL)

    assert (use.chat, use.counted) == (44 + 100 + 44 + 44, False)


def test_what_is_left_out_takes_nothing() -> None:
    said = [
        question("q", image(), image(left_out=True)),
        reply("r", COUNTED),
        question("q2", image(), left_out=True),
        reply("r2", left_out=True),
    ]

    use = measure(said, Draft(), MODEL)

    assert (use.chat, use.chat_pictures, use.counted) == (44 + 100 + 44, 1, False)
    assert earlier_pictures(said) == {"q": (0,)}


def test_the_pictures_of_a_question_without_an_answer_are_not_earlier_ones() -> None:
    said = [question("q", image()), reply("r"), question("q2", image()), reply("r2", text="")]
    failed = [*said[:-1], replace(said[-1], status=MessageStatus.FAILED)]

    assert earlier_pictures(said) == {"q": (0,), "q2": (0,)}
    assert earlier_pictures(failed) == {"q": (0,)}
    assert earlier_pictures(failed[2:]) == earlier_pictures(()) == {}


def test_an_empty_chat_takes_nothing() -> None:
    assert measure((), Draft(" \n"), MODEL).total == 0


@pytest.mark.parametrize(("limit", "is_too_long"), [(190, True), (191, False), (None, False)])
def test_too_long_is_where_no_token_is_left_for_an_answer(limit: int | None, is_too_long: bool) -> None:
    model = replace(MODEL, context_length=limit)

    assert measure((), Draft(WORDS, ((280, 280), (28, 56)), WORDS), model).is_too_long is is_too_long


@pytest.mark.parametrize(("limit", "too_many"), [(2, True), (3, False), (0, True), (None, False)])
def test_too_many_pictures_are_counted_over_the_chat(limit: int | None, too_many: bool) -> None:
    said = [question("q", image(), image(left_out=True))]
    model = replace(MODEL, image_limit=limit)

    assert measure(said, Draft(sizes=((1, 1), (1, 1))), model).has_too_many_pictures is too_many


def chat_of(turns: int) -> list[StoredMessage]:
    return [one for turn in range(turns) for one in (question(f"q{turn}", image()), reply(f"r{turn}"))]


@pytest.mark.parametrize(
    ("turns", "text", "left_out"),
    [
        (3, "", []),  # 564 tokens in three turns
        (4, "", ["q0", "r0"]),  # 752 would be more than three quarters
        (6, "", ["q0", "r0", "q1", "r1", "q2", "r2"]),
        (4, WORDS * 5, ["q0", "r0", "q1", "r1"]),  # 204 of the message itself
        (4, WORDS * 40, ["q0", "r0", "q1", "r1", "q2", "r2"]),  # the last turn stays
        (0, WORDS * 40, []),
    ],
)
def test_the_oldest_turns_are_left_out_until_there_is_room(
    turns: int, text: str, left_out: list[str]
) -> None:
    assert oldest_turns(chat_of(turns), Draft(text), MODEL) == left_out


def test_what_is_left_out_already_is_not_left_out_again() -> None:
    said = [replace(one, left_out=True) for one in chat_of(2)] + chat_of(1)

    assert oldest_turns(said, Draft(), MODEL) == []


@pytest.mark.parametrize(
    ("sentence", "says"),
    [
        ("This chat is 6,004 tokens, but the model reads at most 4,096 tokens. Start a new chat.", True),
        ("This chat is longer than what the model reads.", True),
        ("This model takes at most 1 picture in one chat.", True),
        ("This chat is still being answered.", False),
        ("The model stopped working.", False),
        ("", False),
    ],
)
def test_which_errors_are_about_too_much(sentence: str, says: bool) -> None:
    assert is_too_much(sentence) is says
