"""What people write first, for comparison: a Gradio Chatbot that is given the whole history with each token.

    python -m bench.plain_chat chatbot|load_chat MODEL_URL PORT [PICTURES]

``chatbot`` begins with a conversation of so many turns, each with one of the PICTURES (a folder).
``load_chat`` is ``gr.load_chat`` as it comes. Both let every visitor in at once.
"""

import sys
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import gradio as gr
from openai import AsyncOpenAI

from bench.model_server import MODEL
from bench.seeds import ANSWER, QUESTION


def chatbot(url: str, pictures: list[Path]) -> gr.Blocks:
    client = AsyncOpenAI(base_url=url, api_key="none")
    history: list[Any] = []
    for picture in pictures:
        history.append({"role": "user", "content": {"path": str(picture)}})
        history.append({"role": "user", "content": QUESTION})
        history.append({"role": "assistant", "content": ANSWER})

    def ask(text: str, said: list[Any]) -> tuple[str, list[Any]]:
        return "", [*said, {"role": "user", "content": text}]

    async def answer(said: list[Any]) -> AsyncGenerator[list[Any], None]:
        said = [*said, {"role": "assistant", "content": ""}]
        # The pictures are not even sent to the model.
        stream = await client.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": QUESTION}], stream=True
        )
        async for part in stream:
            if part.choices and part.choices[0].delta.content:
                said[-1]["content"] += part.choices[0].delta.content
                yield said

    with gr.Blocks(analytics_enabled=False) as page:
        shown = gr.Chatbot(history, elem_id="chat")
        box = gr.Textbox(elem_id="box")
        box.submit(ask, [box, shown], [box, shown], api_name="ask").then(
            answer, [shown], [shown], concurrency_limit=None, api_name="answer"
        )
    return page


def load_chat(url: str) -> gr.Blocks:
    page: gr.Blocks = gr.load_chat(url, model=MODEL, token="none", concurrency_limit=None)  # type: ignore[arg-type]
    return page


def main() -> None:
    kind, url, port, *folder = sys.argv[1:]
    pictures = sorted(Path(folder[0]).iterdir()) if folder else []
    page = chatbot(url, pictures) if kind == "chatbot" else load_chat(url)
    page.launch(server_port=int(port), quiet=True, allowed_paths=folder, footer_links=[])


if __name__ == "__main__":
    main()
