"""One picture by itself: what is asked about it, and what its answer means."""

from contextlib import aclosing

from backend.captioning.fields import read_answer
from backend.captioning.presets import render_prompt, tidy
from backend.captioning.values import JobSpec, Outcome, Row, RowState
from backend.engine import Engine
from backend.types import ChatRequest, Image, Message, Stats, Text, TextDelta


def request_for(spec: JobSpec, image: Image, prompt: str, model: str) -> ChatRequest:
    """What is sent to ``model`` about a picture. Nobody watches the answer grow."""
    messages: tuple[Message, ...] = (Message("user", (image, Text(prompt))),)
    if spec.system:
        messages = (Message("system", (Text(spec.system),)), *messages)
    return ChatRequest(model, messages, spec.sampling, schema=spec.schema, in_one_piece=True)


def outcome_of(row: Row, model: str, prompt: str, stats: Stats, thumbnail: bytes) -> Outcome:
    """What is known of an answer before it is read."""
    return Outcome(
        row.id,
        RowState.DONE,
        model=model,
        prompt=prompt,
        prompt_tokens=stats.prompt_tokens,
        completion_tokens=stats.completion_tokens,
        duration_s=stats.duration_s,
        finish_reason=stats.finish_reason,
        thumbnail=thumbnail,
    )


async def caption_one(engine: Engine, spec: JobSpec, image: Image) -> str:
    """The caption of a picture; with a schema its fields, as JSON in one line.

    Raises:
        EngineError: as ``Engine.stream``.
        InputError: the answer does not fit the fields.
    """
    text = ""
    request = request_for(spec, image, render_prompt(spec, image.name, ""), spec.model)
    async with aclosing(engine.stream(request)) as events:
        async for event in events:
            if isinstance(event, TextDelta):
                text += event.text
    return read_answer(spec.schema, text) if spec.schema else tidy(spec, text)
