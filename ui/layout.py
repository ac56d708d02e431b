"""The page: what stands where, and which handler answers what. No logic."""

from typing import Any

import gradio as gr

from backend.config import Settings
from ui import render
from ui.chat import Chat, View

TITLE = "Sightline"
PICTURE_TYPES = [".jpg", ".jpeg", ".png", ".webp", ".gif"]  # a hint for the file picker; images.py decides
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
  <span id="engine-status" class="status" role="status"></span>
</header>
"""
DEMO_BANNER = """
<p class="banner">This is the built-in <b>demo model</b>: small, trained from scratch, and it knows <b>only
simple drawings</b> of coloured shapes, no photographs. For real pictures start a real model:
<code>make run ARGS="owner/model"</code></p>
"""
EMPTY_CHAT = """
<div class="empty">
<h2>What would you like to know about a picture?</h2>
<p>Add pictures with the clip, by dropping or pasting them, or by web address. Then ask.</p>
</div>
"""
# The page's own half of two events: it alone knows what was typed while the server worked.
JS_ADD_FETCHED = """(fetched, composer) => {
  if (!fetched?.file) return composer;
  const text = composer.text.trim() === fetched.address ? "" : composer.text;
  return {text, files: [...composer.files, fetched.file]};
}"""
JS_CLEAR_FETCHED = """(fetched, address) =>
  fetched?.file && fetched.address === address ? "" : address"""
JS_UNDO_FETCHED = """(fetched, composer) => {
  if (!fetched?.file) return composer;
  const text = [composer.text.trim(), fetched.address].filter(Boolean).join(" ");
  return {text, files: composer.files.filter(file => file.path !== fetched.file.path)};
}"""
JS_CONFIRM_DELETE = """chat => chat && confirm("Delete this chat and its pictures?") ? chat : "" """


def theme() -> gr.themes.Base:
    """Restrained: greys with one accent, the system's fonts."""
    return gr.themes.Base(
        primary_hue=gr.themes.colors.teal,
        secondary_hue=gr.themes.colors.teal,
        neutral_hue=gr.themes.colors.slate,
        radius_size=gr.themes.sizes.radius_lg,
        font=SYSTEM_FONTS,
        font_mono=MONO_FONTS,
    )


def build(chat: Chat, settings: Settings, *, is_demo: bool) -> gr.Blocks:
    """The whole page."""
    page = gr.Blocks(title=TITLE, analytics_enabled=False, fill_height=True)
    with page:
        with gr.Sidebar(width=260, open=False, elem_id="chats-bar"):
            new_button = gr.Button("New chat", variant="secondary", elem_id="new-chat")
            chats = gr.Radio([], label="Your chats", elem_id="chats", interactive=True)
            delete_button = gr.Button(
                "Delete this chat", size="sm", variant="secondary", elem_id="delete-chat"
            )
        with gr.Sidebar(width=300, position="right", open=False, elem_id="settings-bar"):
            gr.Markdown("### Settings")
            choices = _settings(settings, list(chat.models))
        gr.HTML(HEADER, padding=False)
        if is_demo:
            gr.HTML(DEMO_BANNER, padding=False)
        chatbot = _chatbot(chat)
        with gr.Row(elem_id="notice-row"):
            notice = gr.HTML("", padding=False, elem_id="notice")
            undo_button = gr.Button("Undo", size="sm", min_width=60, scale=0, elem_id="undo-address")
        composer = _composer(settings)
        with gr.Row(elem_id="address-row"):
            address = gr.Textbox(
                show_label=False,
                label="Web address of a picture",
                placeholder="Add a picture by web address: https://…",
                max_lines=1,
                container=False,
                scale=4,
                elem_id="address",
            )
            add_button = gr.Button("Add picture", size="sm", scale=0, min_width=110, elem_id="add-address")
        chat_id = gr.Textbox(visible="hidden", elem_id="chat-id")
        pasted = gr.Textbox(visible="hidden", elem_id="pasted-address")
        paste_button = gr.Button(visible="hidden", elem_id="paste-address")
        fetched = gr.JSON(visible="hidden", elem_id="fetched-file")

        view = list(View(chatbot, composer, notice, chat_id, chats))
        # Values go out as the handlers made them, and come in as the page posted them: ui/render.py
        # and ui/payload.py are the only ones that know their form. No event cancels another: an older
        # one sees by itself that the page has turned to something else (ui/pages.py).
        plain: dict[str, Any] = {
            "preprocess": False,
            "postprocess": False,
            "show_progress": "hidden",
            "api_visibility": "private",
        }
        answering = plain | {"concurrency_limit": settings.max_streams, "concurrency_id": "replies"}
        watching = plain | {"concurrency_limit": None}
        quick = plain | {"queue": False}

        composer.submit(chat.send, [composer, chat_id, *choices], view, **answering)
        chatbot.retry(chat.retry, [chat_id, *choices], view, **answering)
        chats.input(chat.open_chat, [chats], view, trigger_mode="multiple", **watching)
        page.load(chat.open_page, None, view, **watching)
        page.unload(chat.leave)
        composer.stop(chat.stop, [chat_id], None, **quick)
        new_button.click(chat.new_chat, None, view, **plain)
        delete_button.click(chat.delete_chat, [chat_id], view, js=JS_CONFIRM_DELETE, **plain)
        chatbot.example_select(chat.fill_example, None, view, **quick)

        for trigger, source in (
            (add_button.click, address),
            (address.submit, address),
            (paste_button.click, pasted),
        ):
            trigger(chat.fetch_address, [source], [fetched, notice], **plain).then(
                None, [fetched, composer], [composer], js=JS_ADD_FETCHED, **quick
            ).then(None, [fetched, address], [address], js=JS_CLEAR_FETCHED, **quick)
        undo_button.click(None, [fetched, composer], [composer], js=JS_UNDO_FETCHED, **quick).then(
            None, None, [notice], js='() => ""', **quick
        )
    return page


def _chatbot(chat: Chat) -> gr.Chatbot:
    examples: list[Any] = [
        {"text": example.prompt, "files": [render.example_picture(path.name) for path in example.files]}
        for example in chat.examples
    ]
    return gr.Chatbot(
        label="Conversation",
        show_label=False,
        height="auto",
        scale=1,
        buttons=["copy"],
        allow_file_downloads=False,
        latex_delimiters=LATEX,
        placeholder=EMPTY_CHAT,
        examples=examples or None,
        elem_id="chat",
        layout="bubble",
    )


def _composer(settings: Settings) -> gr.MultimodalTextbox:
    return gr.MultimodalTextbox(
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


def _settings(settings: Settings, models: list[str]) -> list[gr.components.Component]:
    """Model, system prompt, temperature, top-p, max tokens, seed: the order that ``read_choices`` expects."""
    return [
        gr.Dropdown(models, value=models[0], label="Model", elem_id="model"),
        gr.Textbox(
            settings.system_prompt,
            label="System prompt",
            info="What the model should keep in mind throughout.",
            lines=3,
            max_lines=8,
            elem_id="system-prompt",
        ),
        gr.Slider(0, 2, 0.2, step=0.05, label="Temperature", info="0: always the likeliest word."),
        gr.Slider(0.05, 1, 1, step=0.05, label="Top-p", info="Share of likely words."),
        gr.Slider(16, 8192, 1024, step=16, label="Max tokens", info="The longest answer."),
        gr.Textbox(
            label="Seed", info="The same number gives the same answer.", placeholder="any", max_lines=1
        ),
    ]
