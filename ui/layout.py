"""The page: what stands where, and which handler answers what. No logic."""

from typing import Any

import gradio as gr

from backend.config import Settings
from backend.types import Detail
from ui import caption_one, chats_bar, context, drafts, messages, render
from ui.caption_one import CaptionOne
from ui.chat import Chat, View
from ui.choices import (
    JS_KEPT,
    JS_MODEL_AND_KEPT,
    MAX_TOKENS,
    MAX_TOKENS_STEP,
    TEMPERATURE,
    TOP_P,
    Menu,
    ModelMenu,
    Restored,
    details_for,
    js_keep,
)
from ui.operator_panel import Panel, operator_section

TITLE = "Sightline"
PICTURE_TYPES = [  # a hint for the file picker; backend/formats.py decides by content
    *(".jpg", ".jpeg", ".jfif", ".mpo", ".png", ".apng", ".webp", ".gif", ".avif"),
    *(".heic", ".heif", ".hif", ".tif", ".tiff", ".bmp", ".pdf"),
    "image/*",  # which the page's script calls a file whose kind the browser does not know
]
LATEX: list[dict[str, str | bool]] = [
    {"left": "$$", "right": "$$", "display": True},
    {"left": r"\[", "right": r"\]", "display": True},
    {"left": r"\(", "right": r"\)", "display": False},
]
SYSTEM_FONTS = ["ui-sans-serif", "system-ui", "sans-serif"]  # nothing is fetched for them
MONO_FONTS = ["ui-monospace", "SFMono-Regular", "Menlo", "monospace"]

HEADER = """
<header class="masthead">
  <img src="sightline/icon.svg" alt="" width="28" height="28">
  <h1>Sightline</h1>
  <div class="tabs" role="tablist" aria-label="What to do">
    <button role="tab" id="tab-chat" aria-selected="true">Chat</button>
    <button role="tab" id="tab-captions" tabindex="-1" aria-selected="false"
      aria-controls="captions">Captions</button>
  </div>
  <span id="engine-status" class="status" role="status"></span>
</header>
"""
# The page's script fills it: ui/captioning.py.
CAPTIONS = '<section id="captions" role="tabpanel" aria-labelledby="tab-captions" hidden></section>'
DEMO_BANNER = """
<p class="banner">This is the built-in <b>demo model</b>: small, trained from scratch, and it knows <b>only
simple drawings</b> of coloured shapes, no photographs. <a href="sightline/demo-model" target="_blank">Its
card</a> says more. For real pictures start a real model: <code>make run ARGS="owner/model"</code></p>
"""
EMPTY_CHAT = """
<div class="empty">
<h2>What would you like to know about a picture?</h2>
<p>Add pictures with the clip, by dropping or pasting them, or by web address. Then ask.</p>
{kept}</div>
"""
# The page's own half of two events: it alone knows what was typed while the server worked.
JS_ADD_FETCHED = """(fetched, composer) => {
  if (!fetched?.files?.length) return composer;
  const text = composer.text.trim() === fetched.address.trim() ? fetched.left : composer.text;
  return {text, files: [...composer.files, ...fetched.files]};
}"""
JS_CLEAR_FETCHED = """(fetched, address) =>
  fetched?.files?.length && fetched.address.trim() === address.trim() ? fetched.left : address"""
JS_OFFERS = "fetched => ({left: fetched?.left, offers: fetched?.offers})"
# Who closed it with a key goes on in the composer: the button is gone with the notice.
JS_CLOSE_NOTICE = """() => {
  if (document.activeElement?.matches("#close-notice:focus-visible"))
    document.querySelector("#composer textarea").focus();
  return "";
}"""
JS_UNDO_FETCHED = """(fetched, composer) => {
  if (!fetched?.files?.length) return composer;
  const text = [composer.text.trim(), fetched.taken].filter(Boolean).join(" ");
  const paths = new Set(fetched.files.map(file => file.path));
  return {text, files: composer.files.filter(file => !paths.has(file.path))};
}"""


def theme() -> gr.themes.Base:
    """Restrained: greys with one accent, the system's fonts."""
    return gr.themes.Base(
        primary_hue=gr.themes.colors.teal,
        secondary_hue=gr.themes.colors.teal,
        neutral_hue=gr.themes.colors.slate,
        radius_size=gr.themes.sizes.radius_lg,
        font=SYSTEM_FONTS,
        font_mono=MONO_FONTS,
    ).set(  # white on them has enough contrast
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_dark="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_background_fill_hover_dark="*primary_800",
    )


def build(
    chat: Chat, menu: ModelMenu, panel: Panel, one: CaptionOne, settings: Settings, *, is_demo: bool
) -> gr.Blocks:
    """The whole page."""
    # Values go out as the handlers made them, and come in as the page posted them: ui/render.py
    # and ui/payload.py are the only ones that know their form. No event cancels another: an older
    # one sees by itself that the page has turned to something else (ui/pages.py).
    plain: dict[str, Any] = {
        "preprocess": False,
        "postprocess": False,
        "show_progress": "hidden",
        "api_visibility": "private",
    }
    # Not by way of the queue: of several answers that come at once there, Gradio's page sometimes opens
    # another stream, on which nothing ever comes.
    quick = plain | {"queue": False}
    page = gr.Blocks(title=TITLE, analytics_enabled=False, fill_height=True)
    with page:
        refresh_button = gr.Button(visible="hidden", elem_id="refresh-menu")
        # Gradio tells all outputs of an event how far it is, even before it posts it: here none that is seen.
        plain["show_progress_on"] = quick["show_progress_on"] = refresh_button
        caption_one.lay_out(one, plain)
        with gr.Sidebar(width=260, open=False, elem_id="chats-bar"):
            bar = chats_bar.lay_out(settings)
        with gr.Sidebar(width=300, position="right", open=False, elem_id="settings-bar"):
            gr.Markdown("### Settings")
            choices, facts = _settings(settings)
            operator_section(panel, page, refresh_button, plain, quick)
        _top(is_demo)
        chatbot = _chatbot("chat", placeholder=_empty_chat(settings), examples=_examples(chat))
        rows, editing = (gr.Textbox(visible="hidden", elem_id=name) for name in ("rows", "editing"))
        growing = _chatbot("growing")  # which the page's script puts below the last message of the other
        cancel_edit = messages.editing_row()
        notice, buttons = _notice_row(quick)
        composer = _composer(settings, quick)
        with gr.Row(elem_id="picture-row"):  # there while the composer holds pictures
            detail = gr.Dropdown(
                details_for(None, settings.image_side),
                value=Detail.AUTO.value,
                label="Detail of the pictures",
                container=False,
                filterable=False,
                scale=0,
                min_width=200,
                elem_id="detail",
            )
            pages = gr.Textbox(  # there while one of them is a PDF
                label="Pages of the PDF",
                show_label=False,
                placeholder=f"Pages, as 1-3 (else the first {settings.max_pdf_pages})",
                max_lines=1,
                container=False,
                scale=0,
                min_width=100,
                elem_id="pages",
            )
        context_row, (address, add_button) = context.lay_out(), _address_row()
        chat_id, sent = (gr.Textbox(visible="hidden", elem_id=name) for name in ("chat-id", "sent"))
        growing_in, last, deleted = (
            gr.Textbox(visible="hidden", elem_id=name) for name in ("growing-in", "last", "deleted")
        )
        parts = View(
            chatbot, composer, notice, sent, chat_id, bar.chats, growing, growing_in, editing, rows, last
        )
        view = list(parts)
        _follow_replies(chat, view, quick, chat_id=chat_id, growing=growing, growing_in=growing_in)

        written = drafts.Written(composer, address, pages, detail)
        # Before the handler of Send, so that it sees what is sent.
        drafts.connect(chat, page, parts, quick, written=written, new=bar.new)
        asked = list(choices.values())
        message = [composer, chat_id, editing, detail, pages, *asked]
        composer.submit(chat.send, [*message[:3], last, *message[3:]], view, **quick)
        messages.connect(messages.Messages(chat), parts, cancel_edit, asked, quick, deleted=deleted)
        context.connect(context.Context(chat), parts, context_row, message, detail=detail, quick=quick)
        chatbot.retry(chat.retry, [chat_id, last, *asked], view, **quick)
        page.unload(chat.leave)
        _keep_settings(menu, page, refresh_button, choices, facts=facts, detail=detail, quick=quick)
        composer.stop(chat.stop, [chat_id], None, **quick)
        chats_bar.connect(
            bar,
            chats_bar.ChatsBar(chat),
            view,
            buttons["undo-delete"],
            chat_id=chat_id,
            notice=notice,
            deleted=deleted,
            plain=plain,
            quick=quick,
        )
        chatbot.example_select(chat.fill_example, None, view, **quick)
        buttons["add"] = add_button
        _fetch_addresses(chat, buttons, plain, address=address, composer=composer, notice=notice)
    return page


def _notice_row(quick: dict[str, Any]) -> tuple[gr.HTML, dict[str, gr.Button]]:
    """What was done, or why not; of its buttons the style sheet shows those for which there is something."""
    with gr.Row(elem_id="notice-row"):
        notice = gr.HTML("", padding=False, elem_id="notice")
        buttons = {
            "undo": gr.Button("Undo", size="sm", min_width=60, scale=0, elem_id="undo-address"),
            "undo-delete": gr.Button("Undo", size="sm", min_width=60, scale=0, elem_id="undo-delete"),
            "cancel": gr.Button("Cancel", size="sm", min_width=60, scale=0, elem_id="cancel-fetch"),
            "preview": gr.Button("Use the page's preview picture", size="sm", scale=0, elem_id="use-preview"),
        }
        close = gr.Button("✕", size="sm", min_width=32, scale=0, elem_id="close-notice")
    close.click(None, None, [notice], js=JS_CLOSE_NOTICE, **quick)
    return notice, buttons


def _empty_chat(settings: Settings) -> str:
    kept = chats_bar.how_long(settings)
    return EMPTY_CHAT.format(kept=f'<p class="kept">{kept}</p>\n' if kept else "")


def _top(is_demo: bool) -> None:
    gr.HTML(HEADER, padding=False)
    if is_demo:
        gr.HTML(DEMO_BANNER, padding=False, elem_id="demo-banner")
    gr.HTML(CAPTIONS, padding=False, elem_id="captions-place")


def _keep_settings(
    menu: ModelMenu,
    page: gr.Blocks,
    refresh: gr.Button,
    choices: dict[str, Any],
    *,
    facts: gr.HTML,
    detail: gr.Dropdown,
    quick: dict[str, Any],
) -> None:
    """Fill the menu of models, and let the browser keep what is chosen."""
    kept = gr.JSON(visible="hidden")
    model, seen = choices["model"], list(Menu(choices["model"], facts, choices["max_tokens"], detail))
    restored = list(Restored(**choices, facts=facts, detail=detail))
    page.load(menu.restore, [kept], restored, js=JS_KEPT, **quick)
    refresh.click(menu.refresh, [model, kept], seen, js=JS_MODEL_AND_KEPT, **quick)
    model.input(menu.describe, [model, kept], seen[1:], js=JS_MODEL_AND_KEPT, **quick)
    for name, setting in choices.items():
        # Not each change of menu and sliders is the person's: a smaller model shortens the longest answer.
        # A slider's button for what it began with is no input.
        changes = [setting.change] if isinstance(setting, gr.Textbox) else [setting.input]
        changes += [setting.release] if isinstance(setting, gr.Slider) else []
        for change in changes:
            change(None, [setting], None, js=js_keep(name), **quick)


def _follow_replies(
    chat: Chat,
    view: list[Any],
    quick: dict[str, Any],
    *,
    chat_id: gr.Textbox,
    growing: gr.Chatbot,
    growing_in: gr.Textbox,
) -> None:
    """Let the page's script show a reply as it grows, and the server what became of it.

    It grows in a Chatbot of its own: with each update Gradio goes through all messages of a Chatbot.
    """
    grown = gr.Button(visible="hidden", elem_id="grown")
    settled = gr.Button(visible="hidden", elem_id="settled")
    growing_in.change(None, [growing_in], None, js="chat => sightline.follow(chat)", **quick)
    grown.click(None, None, [growing], js="() => [sightline.grown()]", **quick)
    settled.click(chat.settle, [chat_id], view, **quick).then(
        None, [growing_in], None, js="chat => sightline.follow(chat)", **quick
    )


def _fetch_addresses(
    chat: Chat,
    buttons: dict[str, gr.Button],
    plain: dict[str, Any],
    *,
    address: gr.Textbox,
    composer: gr.MultimodalTextbox,
    notice: gr.HTML,
) -> None:
    """Let web addresses become pictures of the composer."""
    pasted = gr.Textbox(visible="hidden", elem_id="pasted-address")
    paste_button = gr.Button(visible="hidden", elem_id="paste-address")
    fetched = gr.JSON(visible="hidden", elem_id="fetched-file")
    fetching, quick = chat.fetching, plain | {"queue": False}
    watching = plain | {"concurrency_limit": None}  # who may fetch, backend/fetch.py says
    for trigger, handler, source, js in (
        (buttons["add"].click, fetching.fetch, address, None),
        (address.submit, fetching.fetch, address, None),
        (paste_button.click, fetching.fetch, pasted, None),
        (buttons["preview"].click, fetching.fetch_previews, fetched, JS_OFFERS),
    ):
        trigger(handler, [source], [fetched, notice], js=js, **watching).then(
            None, [fetched, composer], [composer], js=JS_ADD_FETCHED, **quick
        ).then(None, [fetched, address], [address], js=JS_CLEAR_FETCHED, **quick)
    buttons["cancel"].click(fetching.give_up, None, None, **quick)
    buttons["undo"].click(None, [fetched, composer], [composer], js=JS_UNDO_FETCHED, **quick).then(
        None, None, [notice], js='() => ""', **quick
    )


def _examples(chat: Chat) -> list[Any] | None:
    return [
        {"text": example.prompt, "files": [render.example_picture(path.name) for path in example.files]}
        for example in chat.examples
    ] or None


def _chatbot(elem_id: str, **more: Any) -> gr.Chatbot:
    return gr.Chatbot(
        label="Conversation",
        show_label=False,
        height="auto",
        scale=1,
        buttons=["copy"],
        allow_file_downloads=False,
        latex_delimiters=LATEX,
        elem_id=elem_id,
        layout="bubble",
        **more,
    )


def _address_row() -> tuple[gr.Textbox, gr.Button]:
    with gr.Row(elem_id="address-row"):
        address = gr.Textbox(
            show_label=False,
            label="Web addresses of pictures",
            placeholder="Add pictures by web address: https://…",
            max_lines=4,
            container=False,
            scale=4,
            elem_id="address",
        )
        button = gr.Button("Add picture", size="sm", scale=0, min_width=110, elem_id="add-address")
    return address, button


def _composer(settings: Settings, quick: dict[str, Any]) -> gr.MultimodalTextbox:
    composer = gr.MultimodalTextbox(
        label="Message",
        show_label=False,
        placeholder="Ask about your pictures…",
        file_types=PICTURE_TYPES,
        file_count="multiple",
        sources=["upload"],
        max_lines=10,
        max_plain_text_length=settings.max_message_chars,  # a longer paste would become a text file
        autofocus=True,
        elem_id="composer",
    )
    # The page's script puts the pictures into another order, or takes one out.
    arrange = gr.Button(visible="hidden", elem_id="arrange")
    arrange.click(None, [composer], [composer], js="composer => sightline.arranged(composer)", **quick)
    return composer


def _settings(settings: Settings) -> tuple[dict[str, Any], gr.HTML]:
    """The settings by their names, in the order that ``read_choices`` expects.

    And the place for what is known of the model.
    """
    model = gr.Dropdown([], label="Model", elem_id="model")  # filled when the page opens: servers come and go
    facts = gr.HTML("", padding=False, elem_id="model-facts")
    choices = {
        "model": model,
        "system": gr.Textbox(
            settings.system_prompt,
            label="System prompt",
            info="What the model should keep in mind throughout.",
            lines=3,
            max_lines=8,
            elem_id="system-prompt",
        ),
        "temperature": gr.Slider(
            *TEMPERATURE, step=0.05, label="Temperature", info="0: always the likeliest word."
        ),
        "top_p": gr.Slider(*TOP_P, step=0.05, label="Top-p", info="Share of likely words."),
        "max_tokens": gr.Slider(
            *MAX_TOKENS, step=MAX_TOKENS_STEP, label="Max tokens", info=render.longest_answer()
        ),
        "seed": gr.Textbox(
            label="Seed", info="The same number gives the same answer.", placeholder="any", max_lines=1
        ),
    }
    return choices, facts
