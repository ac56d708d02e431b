"""Pure functions: what the house knows -> what Gradio shows.

Messages are made in the form in which the Chatbot's browser side reads them, ready serialised: so
the server need not look at every picture of the history again with every update (see
docs/architecture.md). Files carry no ``meta`` key for the same reason: with it Gradio would. Nor do
they carry a ``path``: the page posts them back with some events, and only uploads may be named there.
"""

import html
import json
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any
from urllib.parse import quote

from backend.addresses import shown_address
from backend.catalogue.download import with_time
from backend.context import Use
from backend.errors import SightlineError, WebPageError
from backend.replies import Draft
from backend.types import (
    Capabilities,
    ChatInfo,
    Detail,
    EngineState,
    ImageRef,
    MessageStatus,
    ModelInfo,
    Stats,
    StoredMessage,
)

Json = dict[str, Any]

MEASURABLE_TOKENS = 20  # of fewer the speed says little
SHOWN_PICTURES = 4  # of which the tokens of each are told
MANY = 100  # pictures in a chat; vLLM says 999 where nobody set a limit
# The page's script cuts elements of this class out of what the copy button copies.
FOOTER_CLASS = "reply-footer"

_BROKEN_OFF = {
    MessageStatus.CANCELLED: "Stopped.",
    MessageStatus.INTERRUPTED: "This answer broke off before its end.",
    MessageStatus.FAILED: "No answer came.",
}


def conversation(messages: Sequence[StoredMessage]) -> list[Json]:
    """A chat in which no reply grows, as the Chatbot shows it; one marked streaming was left by a crash."""
    return [shown for message in messages for shown in _message(message)]


def rows(messages: Sequence[StoredMessage]) -> str:
    """What can be done with each row of the conversation: JSON for ``assets/web/messages.js``.

    The Chatbot puts messages of a role that follow one another into one row; the last of them counts.
    """
    rows = [list(row) for _, row in groupby(messages, lambda message: message.role)]
    return json.dumps(
        [
            {
                "id": row[-1].id,
                "role": row[-1].role,
                "versions": row[-1].versions if len(row[-1].versions) > 1 else (),
                "cut": row[-1] is messages[-1] and row[-1].is_cut,
                "leftOut": all(message.left_out for message in row),
                "of": [message.id for message in row],
                "pictures": [
                    {"name": image.name, "of": [message.id], "picture": place, "leftOut": image.left_out}
                    for message in row
                    for place, image in enumerate(message.images)
                ],
            }
            for row in rows
        ]
    )


def _message(message: StoredMessage) -> list[Json]:
    if message.role == "user":
        return question(message)
    left = message.status is MessageStatus.STREAMING
    status = MessageStatus.INTERRUPTED if left else message.status
    return reply(Draft(message.text, message.reasoning, status, message.stats, message.error))


def question(message: StoredMessage) -> list[Json]:
    """A person's message: the pictures, then the text."""
    parts = [_picture(image) for image in message.images]
    if message.text:
        parts.append(_text(message.text))
    return [_shown("user", parts)]


def reply(draft: Draft, engine: Capabilities | None = None) -> list[Json]:
    """A reply at any moment: its reasoning, its text, and below what became of it.

    ``engine`` is given while the reply waits for an engine that is still loading.
    """
    shown: list[Json] = []
    if draft.reasoning:
        done = bool(draft.text) or draft.is_over
        title = {"title": "Thoughts" if done else "Thinking", "status": "done" if done else "pending"}
        shown.append(_shown("assistant", [_text(draft.reasoning)], title))
    if draft.text:
        shown.append(_shown("assistant", [_text(draft.text)]))
    if draft.is_over:
        shown.append(_shown("assistant", [_text(footer(draft))]))
    elif draft.waits:
        shown.append(_shown("assistant", [_text(waiting(engine, draft.retry_in_s, draft.place))]))
    return shown


def growth(shown: list[Json], now: list[Json]) -> Json:
    """What turns the one reply into the other: the tail of the last text, or all where more has changed.

    ``assets/web/growing.js`` does it.
    """
    if len(shown) == len(now) > 0 and shown[:-1] == now[:-1] and shown[-1]["metadata"] == now[-1]["metadata"]:
        before, after = (messages[-1]["content"][0]["text"] for messages in (shown, now))
        if after.startswith(before):
            return {"tail": after[len(before) :]}
    return {"messages": now}


def waiting(engine: Capabilities | None, retry_in_s: int | None = None, place: int = 0) -> str:
    """What stands in the place of a reply that has not begun.

    ``retry_in_s`` counts down at a busy server; ``place`` is the one in line.
    """
    if place:
        return f'<span class="loading">You are number {place} in line. Stop gives the place up.</span>'
    if retry_in_s:
        return (
            f'<span class="loading">The server is busy. Trying once more in {retry_in_s} s. '
            "Stop ends the waiting.</span>"
        )
    if engine is None or engine.state is not EngineState.LOADING:
        return '<span class="thinking" aria-label="The model is reading"><i></i><i></i><i></i></span>'
    told = with_time(engine.stage, engine.state_s)
    if told != engine.stage:
        told = f"The model is still loading ({told})"
    return (
        f'<span class="loading">{html.escape(told)}. Your message is answered as soon as it is ready.</span>'
    )


def footer(draft: Draft) -> str:
    """One small line under a reply: what happened to it, where that needs saying, and what it cost."""
    parts = [
        draft.error or _BROKEN_OFF.get(draft.status, ""),
        *(_figures(draft.stats) if draft.stats else ()),
    ]
    words = " · ".join(html.escape(part) for part in parts if part)
    if draft.status is MessageStatus.INTERRUPTED:
        words = f"<b>Interrupted.</b> {words}"
    kind = "" if draft.status in (MessageStatus.COMPLETE, MessageStatus.CANCELLED) else " broken"
    return f'<small class="{FOOTER_CLASS}{kind}">{words}</small>'


def _figures(stats: Stats) -> list[str]:
    figures = []
    if stats.completion_tokens is not None:
        about = "about " * stats.estimated
        read = "" if stats.prompt_tokens is None else f" ({stats.prompt_tokens:,} read)"
        figures.append(
            f"{about}{stats.completion_tokens:,} token{'s' * (stats.completion_tokens != 1)}{read}"
        )
    if stats.ttft_s is not None:
        figures.append(f"first after {stats.ttft_s:.2f} s")
    if stats.tokens_per_second is not None and (stats.completion_tokens or 0) >= MEASURABLE_TOKENS:
        figures.append(f"{stats.tokens_per_second:,.0f} tokens/s")
    if stats.finish_reason == "length":
        figures.append("cut at the token limit")
    if stats.ignored:
        figures.append(f"this model does not take: {stats.ignored}")
    return figures


def notice(text: str, *, while_answered: bool = False) -> str:
    """A line above the composer: what went wrong, and what to do.

    ``while_answered``: the page's script lets it go at the end of the answer that grows there.
    """
    mark = " data-while-answered" * while_answered
    return f'<p class="notice" role="alert"{mark}>{html.escape(text)}</p>'


def added(names: Sequence[str]) -> str:
    """The line that says that addresses became pictures; the style sheet shows Undo beside it."""
    shown = ", ".join(f"“{html.escape(name)}”" for name in names)
    return f'<p class="notice" role="status" data-undo>Added {shown}.</p>' if names else ""


def fetching(addresses: Sequence[str], come: Mapping[str, tuple[int, int | None]]) -> str:
    """How far slow addresses are; the style sheet shows Cancel beside it.

    ``come``: of each the bytes that are there, and those in all where its site says it.
    """
    what = f"“{shown_address(addresses[0])}”" if len(addresses) == 1 else f"{len(addresses)} pictures"
    there, totals = sum(count for count, _ in come.values()), [total for _, total in come.values()]
    total = sum(filter(None, totals)) if len(come) == len(addresses) and all(totals) else None
    far = _bytes(there) if total is None else f"{_bytes(there)} of {_bytes(total)}"
    bar = "<progress></progress>" if total is None else f'<progress value="{there}" max="{total}"></progress>'
    return f'<p class="notice" data-fetching>Fetching {html.escape(what)} {bar} {far if there else ""}</p>'


def _bytes(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.0f} kB"


def came_of(outcomes: Mapping[str, Json | SightlineError | None]) -> str:
    """The notice on what became of addresses."""
    files = [outcome for outcome in outcomes.values() if isinstance(outcome, dict)]
    errors = [outcome for outcome in outcomes.values() if isinstance(outcome, SightlineError)]
    names = added([str(file["orig_name"]) for file in files])
    offers = any(isinstance(error, WebPageError) and error.preview for error in errors)
    return names + refusals(errors, offers=offers)


def fetched(text: str, outcomes: Mapping[str, Json | SightlineError | None]) -> Json:
    """What became of the addresses in a text: of each a file of the composer, or why there is none.

    Neither where it was given up.

    ``taken`` and ``left`` are addresses, side by side; ``offers`` the pictures that pages name.
    """
    taken = [address for address, outcome in outcomes.items() if isinstance(outcome, dict)]
    return {
        "address": text,
        "files": [outcomes[address] for address in taken],
        "taken": " ".join(taken),
        "left": " ".join(address for address in outcomes if address not in taken),
        "offers": [
            {"page": address, "preview": outcome.preview}
            for address, outcome in outcomes.items()
            if isinstance(outcome, WebPageError) and outcome.preview
        ],
    }


def deleted(what: str) -> str:
    """The line that says that a chat or message is deleted; the style sheet shows its own Undo beside it."""
    return f'<p class="notice" role="status" data-deleted>Deleted {html.escape(what)}.</p>'


def told(text: str) -> str:
    """A line above the composer that says what was done."""
    return f'<p class="notice" role="status">{html.escape(text)}</p>'


def refusals(errors: Sequence[Exception], *, offers: bool = False) -> str:
    """Why pictures were not taken, one line each.

    ``offers``: pages among them name pictures; the style sheet shows the button for these beside it.
    """
    lines = "<br>".join(html.escape(str(error)) for error in errors)
    return f'<p class="notice" role="alert"{" data-offers" * offers}>{lines}</p>' if lines else ""


def remarks(lines: Sequence[str]) -> str:
    """What of the files that were sent is not used, one line each."""
    shown = "<br>".join(map(html.escape, lines))
    return f'<p class="notice" role="status">{shown}</p>' if shown else ""


def context(use: Use, *, was_refused: bool, pictures: bool, turns: bool, shrink: bool) -> str:
    """The line below the composer: what is taken of the model's context, and of what.

    Where something is too much it says so; the style sheet shows the buttons for which there is something to
    do: earlier ``pictures`` and ``turns`` to leave out, new ones to ``shrink``.
    """
    about = "" if use.counted else "About "
    of = "" if use.limit is None else f" of {use.limit:,}"
    few = len(use.pictures) <= SHOWN_PICTURES
    parts = [
        f"text {use.text:,}" if use.text else "",
        f"picture{'s' * (len(use.pictures) > 1)} {' + '.join(f'{one:,}' for one in use.pictures)}"
        if few and use.pictures
        else f"{len(use.pictures)} pictures {sum(use.pictures):,}" * bool(use.pictures),
        f"chat so far {use.chat:,}" if use.chat else "",
    ]
    made_of = " · ".join(filter(None, parts))
    is_over = use.is_too_long or use.has_too_many_pictures or was_refused
    if is_over:
        offers = {
            "pictures": pictures,
            "turns": turns,
            "shrink": shrink and use.is_too_long,
            "new": bool(use.chat),
        }
        data = "".join(f" data-{name}" for name, offered in offers.items() if offered)
        return (
            f'<p class="context" role="status" data-over{data}>{_too_much(use)}<small>{made_of}</small></p>'
        )
    meter = "" if use.limit is None else f'<meter min="0" max="{use.limit}" value="{use.total}"></meter>'
    return f'<p class="context">{meter}{about}{use.total:,}{of} tokens<span>{made_of}</span></p>'


def _too_much(use: Use) -> str:
    what = "The model could not read all of this chat."
    if use.picture_limit == 0 and use.has_too_many_pictures:
        what = "This model takes no pictures, and would be sent some."
    elif use.has_too_many_pictures:
        most = f"{use.picture_limit} picture{'s' * (use.picture_limit != 1)}"
        what = f"This model takes at most {most}, and would be sent {len(use.pictures) + use.chat_pictures}."
    elif use.is_too_long:
        what = f"About {use.total:,} tokens are more than the {use.limit:,} that this model reads."
    if use.chat:
        return f"{what} Leave something out, or begin a new chat: what you wrote stays."
    return f"{what} {'Shorten it, or send fewer pictures.' if use.pictures else 'Shorten it.'}"


def menu(models: Sequence[ModelInfo], chosen: str, default: str | None) -> tuple[list[tuple[str, str]], str]:
    """Labels and names for the menu of models, and the name that it stands on.

    It stays on the model that was chosen, even where that is not offered for the moment.
    """
    several = len({model.source for model in models}) > 1
    choices = [(model.name if several else model.id, model.name) for model in models]
    names = [name for _, name in choices]
    if chosen and chosen not in names:
        choices.append((chosen, chosen))
    wanted = next((model.name for model in models if default in (model.name, model.id)), None)
    return choices, chosen or wanted or next(iter(names), "")


def model_facts(model: ModelInfo | None) -> str:
    """What is known of a model, under the menu.

    The page's script reads its name there, and the style sheet whether it is the one of this process.
    """
    if model is None:
        return ""
    length = model.context_length
    facts = [f"Reads up to {length:,} tokens" if length else "Context length unknown"]
    limit = model.image_limit
    if limit is not None and limit < MANY:
        facts.append("takes no pictures" if limit == 0 else f"{limit} picture{'s' * (limit > 1)} per chat")
    facts += ["reasons"] * bool(model.reasoning) + ["sees video"] * bool(model.video)
    facts += [f"boxes as {model.box_dialect}"] if model.box_dialect else []
    whose = f'data-model="{html.escape(model.name)}" data-source="{html.escape(model.source)}"'
    remarks = "".join(f"<p>{html.escape(remark)}</p>" for remark in model.remarks)
    return f"<p {whose}>{html.escape(' · '.join(facts))}</p>{remarks}"


def longest_answer(bound: int | None = None) -> str:
    """What stands beside the slider for it, where the model's context bounds it or not."""
    return "The longest answer." if bound is None else f"The longest answer. This model ends at {bound:,}."


def detail(detail: Detail, side: int, tokens: int | None) -> str:
    """A choice of how large pictures go to the model, and what that costs; ``tokens`` of a square one."""
    name = "Original size" if detail is Detail.ORIGINAL else f"{detail.capitalize()} detail"
    cost = "" if tokens is None else f" · up to {tokens:,} tokens"
    return f"{name} · {side} px{cost}"


def chat_choices(chats: Sequence[ChatInfo]) -> list[tuple[str, str]]:
    """Titles and ids for the list of chats."""
    return [(f"{chat.title} (imported)" if chat.imported else chat.title, chat.id) for chat in chats]


def exports(chat_id: str) -> str:
    """Links to a chat as a file; nothing where no chat is open."""
    if not chat_id:
        return ""
    forms = (("md", "Markdown", "text"), ("html", "HTML", "a page"), ("json", "JSON", "OpenAI messages"))
    links = "".join(
        f'<a href="export/{quote(chat_id, safe="")}.{kind}" title="Download as {what}" download>{name}</a>'
        for kind, name, what in forms
    )
    return f'<p class="exports"><span>Export</span>{links}</p>'


def example_picture(name: str) -> Json:
    """A picture of assets/examples, as the Chatbot shows it in an empty chat."""
    return {"url": f"sightline/examples/{name}", "orig_name": name, "mime_type": "image/png"}


def _shown(role: str, parts: list[Json], metadata: Json | None = None) -> Json:
    return {"role": role, "content": parts, "metadata": metadata, "options": None}


def _text(text: str) -> Json:
    return {"type": "text", "text": text}


def _picture(image: ImageRef) -> Json:
    # Small; the page's script shows the whole picture on a click.
    url = f"img/{image.sha256}?size=small"
    file = {"url": url, "mime_type": image.media_type, "orig_name": image.name}
    return {"type": "file", "file": file, "alt_text": image.name}
