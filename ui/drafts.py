"""What a person has written and not sent yet: it outlives a reload, a refusal, and a server that is away.

Their browser keeps it, for each chat (``assets/web/drafts.js``): only there it is safe while the server
cannot be reached. Of pictures it keeps where they wait on the server, which shows and takes them from their
own visitor alone. The server says whose drafts a page may show, and opens the chat that the page had open.
"""

from typing import Any, NamedTuple

import gradio as gr

from ui.chat import Chat, View

JS_OPENED = "() => [window.sightline?.drafts?.opened() ?? null]"
JS_KEEP = "(...written) => window.sightline?.drafts?.keep(...written)"
JS_TURN = "(...now) => window.sightline?.drafts?.turn(...now)"
JS_BEGIN = "(...now) => window.sightline?.drafts?.begin(...now)"
JS_SEND = "composer => window.sightline?.drafts?.send(composer)"


class Written(NamedTuple):
    """The parts of a draft, in the order of the script's arguments."""

    composer: gr.MultimodalTextbox
    address: gr.Textbox
    pages: gr.Textbox
    detail: gr.Dropdown


def connect(
    chat: Chat,
    page: gr.Blocks,
    view: View,
    quick: dict[str, Any],
    *,
    written: Written,
    new: gr.Button,
) -> None:
    """Open the page, keep what is written there, and bring it back."""
    opened = gr.Textbox(visible="hidden", elem_id="opened-chat")
    owner = gr.Textbox(visible="hidden", elem_id="drafts-of")
    parts = list(written)
    turn: dict[str, Any] = {
        "inputs": [*parts, view.chat_id, owner, view.sent],
        "outputs": parts,
        "js": JS_TURN,
    }
    page.load(chat.open_page, [opened], list(view), js=JS_OPENED, **quick).then(
        chat.whose, None, [owner], **quick
    ).then(None, **turn, **quick)
    for told in (view.chat_id, view.sent):
        told.change(None, **turn, **quick)
    # What is typed and sent before the server has answered goes to the new chat.
    emptied = [view.chatbot, view.notice, view.chat_id, view.growing_in, view.editing, view.rows]
    emptied += [view.last, view.growing]
    new.click(None, [*parts, owner, view.sent], [*emptied, *parts], js=JS_BEGIN, **quick)
    for part in written:
        part.change(None, parts, None, js=JS_KEEP, **quick)
    written.composer.submit(None, [written.composer], None, js=JS_SEND, **quick)
