"""Sentences of servers, by which a refusal is known where its status does not tell."""

import re

from backend import errors

# What is said where there is no such path: FastAPI, llama.cpp; OpenAI; Groq.
_NO_ROUTE = re.compile(r"(?:file )?not found|(?:invalid|unknown request) url.*", re.IGNORECASE | re.DOTALL)
# vLLM; OpenAI and many others: "Too many images in request. Max is 10."
_IMAGE_LIMIT = re.compile(
    r"At most (\d+) image\(s\) may be provided|\bimages?\b.{0,80}\bmax(?:imum)?(?: is| of)? (\d+)\b"
    r"(?!\s*(?:[kmg]i?b|bytes|px|(?:mega)?pixels?)\b)",
    re.IGNORECASE,
)
# vLLM and OpenAI; vLLM of prompts with pictures, counted after these became tokens; llama.cpp.
_CONTEXT = re.compile(
    r"maximum (?:context|model) length (?:is |of |\()(\d+)|context size \((\d+) tokens\)"
    r"|context_length_exceeded"
)
_ASKED = re.compile(
    r"(?:(?:contains|has|requested|resulted in) (?:at least )?|\(length |Input length \(|request \()"
    r"(\d+)(?:(?: input)? tokens|\))"
)
# vLLM, llama.cpp, OpenRouter; servers in Rust, such as DeepSeek's.
_NO_PICTURES = re.compile(
    r"is not a multimodal model|image input is not supported|support image input|unknown variant `image_url`"
)
# OpenAI; vLLM of what is more than the whole context.
_ANSWER_LIMIT = re.compile(
    r"at most (\d+) completion tokens|tokens=\d+ cannot be greater than max_model_len=(\d+)"
)


def says_what_is_wrong(message: str) -> bool:
    """Whether a refusal is about the request's length or pictures, whatever its status."""
    return any(sentence.search(message) for sentence in (_CONTEXT, _IMAGE_LIMIT, _NO_PICTURES))


def says_no_route(message: str) -> bool:
    """Whether a refusal is about the path, rather than about what was asked there."""
    return bool(_NO_ROUTE.fullmatch(message.strip()))


def by_sentence(message: str, *, is_here: bool) -> errors.EngineError:
    """A 400 by the sentence it carries (vLLM: its ``entrypoints/`` and ``multimodal/`` modules).

    ``is_here``: it comes from the model in this process.
    """
    if found := _IMAGE_LIMIT.search(message):
        most = int(found[1] or found[2])
        return errors.TooManyImagesError(
            f"This model takes at most {most} picture{'s' * (most != 1)} in one chat.",
            "Start a new chat, or ask about fewer pictures."
            + (" Whoever runs the app can raise it with --limit-mm-per-prompt." if is_here else ""),
        )
    if found := _CONTEXT.search(message):
        return _overflow(int(found[1] or found[2] or 0), _ASKED.search(message))
    if found := _ANSWER_LIMIT.search(message):
        return errors.RejectedError(
            f"This model's answers have at most {int(found[1] or found[2]):,} tokens.",
            "Lower Max tokens, then press Retry.",
        )
    lowered = message.lower()
    if "failed to load image" in lowered or "cannot identify image" in lowered:
        return errors.UndecodableImageError(
            "The model could not read one of the pictures.",
            "Remove it, or save it as JPEG or PNG and add it again.",
        )
    if _NO_PICTURES.search(message):
        return errors.RejectedError(
            "This model does not take pictures.", "Send text only, or choose a model that sees."
        )
    return errors.RejectedError(
        "The model's server did not accept the request.",
        "Check the sampling settings and the system prompt, then press Retry.",
    )


def _overflow(limit: int, asked: re.Match[str] | None) -> errors.ContextOverflowError:
    if not limit:
        what = "This chat is longer than what the model reads."
    elif asked and int(asked[1]) > limit:
        what = f"This chat is {int(asked[1]):,} tokens, but the model reads at most {limit:,} tokens."
    else:
        what = f"This chat is longer than the {limit:,} tokens that the model reads."
    return errors.ContextOverflowError(
        what, "Start a new chat, send fewer or smaller pictures, or shorten the message."
    )


def is_too_much(sentence: str) -> bool:
    """Whether an error, as a person was told it, is about more tokens or pictures than a model takes."""
    return bool(_TOO_MUCH.match(sentence))


_TOO_MUCH = re.compile(r"This chat is (?:longer than|[\d,]+ tokens)|This model takes at most \d+ picture")
