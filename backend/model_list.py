"""What servers tell of their models: one API, and each adds fields of its own."""

import re
from collections.abc import Mapping
from typing import Any

from backend.types import ModelInfo

MAX_MODELS = 1000
MAX_NAME_CHARS = 300
# OpenAI's list does not say what a model is for; these of its names are no chat models.
_NO_CHAT = re.compile(
    r"embed|whisper|\btts\b|-tts|dall-e|moderation|transcribe|rerank|sora|gpt-image|realtime|babbage|davinci",
    re.IGNORECASE,
)


def read_models(answer: object, source: str) -> tuple[ModelInfo, ...]:
    """The chat models in the answer to ``GET /models``, in the server's order.

    Fields beside ``id``: ``max_model_len`` (vLLM, SGLang), ``meta.n_ctx_train`` is the training's length and
    not used (llama.cpp), ``context_length`` (Together; OpenRouter, which has the one in use in
    ``top_provider``), ``max_context_length`` (Mistral), ``context_window`` (Groq), ``architecture`` with
    modalities (OpenRouter, Hugging Face), ``capabilities`` (Mistral), ``supported_parameters`` (OpenRouter).

    Raises:
        ValueError: it is no list of models.
    """
    rows = answer.get("data") if isinstance(answer, Mapping) else answer  # Together sends the bare list
    if not isinstance(rows, list):
        raise ValueError("no list of models")
    cards = [row for row in rows if isinstance(row, Mapping) and _is_name(row.get("id"))]
    found = {card["id"]: _read_card(card, source) for card in cards if _is_chat(card)}
    return tuple(found.values())[:MAX_MODELS]


def _is_name(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= MAX_NAME_CHARS and value.isprintable()


def _is_chat(card: Mapping[str, Any]) -> bool:
    """Whether it answers with text, as far as the card tells."""
    completes = _mapping(card, "capabilities").get("completion_chat")
    if isinstance(completes, bool):
        return completes
    written = _mapping(card, "architecture").get("output_modalities")
    if isinstance(written, list):
        return "text" in written
    if isinstance(card.get("type"), str):  # Together
        return card["type"] in ("chat", "language", "model", "llm", "vlm")
    return not _NO_CHAT.search(card["id"])


def _read_card(card: Mapping[str, Any], source: str) -> ModelInfo:
    names = ("max_model_len", "context_length", "max_context_length", "context_window")
    lengths = (_mapping(card, "top_provider").get("context_length"), *(card.get(name) for name in names))
    sees, video, reasons = None, None, None
    read = _mapping(card, "architecture").get("input_modalities")
    if isinstance(read, list):
        sees, video = "image" in read, "video" in read
    told = _mapping(card, "capabilities")
    if isinstance(told.get("vision"), bool):
        sees = told["vision"]
    if isinstance(told.get("reasoning"), bool):
        reasons = told["reasoning"]
    taken = card.get("supported_parameters")
    if isinstance(taken, list):
        reasons = "reasoning" in taken
    return ModelInfo(
        card["id"],
        source,
        context_length=next(
            (n for n in lengths if isinstance(n, int) and not isinstance(n, bool) and n > 0), None
        ),
        image_limit=0 if sees is False else None,
        reasoning=reasons,
        video=video,
    )


def owner_of_models(answer: object) -> str:
    """Which server it is, where its models' ``owned_by`` tells (``llamacpp``, ``library`` of Ollama)."""
    rows = answer.get("data") if isinstance(answer, Mapping) else None
    first = rows[0] if isinstance(rows, list) and rows else None
    owner = first.get("owned_by") if isinstance(first, Mapping) else None
    return owner if isinstance(owner, str) else ""


def read_llamacpp_props(answer: object) -> dict[str, Any]:
    """What llama.cpp's ``GET /props`` adds (tools/server/README.md): its real context, and if it sees."""
    if not isinstance(answer, Mapping):
        return {}
    known: dict[str, Any] = {}
    length = _mapping(answer, "default_generation_settings").get("n_ctx")
    if isinstance(length, int) and length > 0:
        known["context_length"] = length
    if _mapping(answer, "modalities").get("vision") is False:
        known["image_limit"] = 0
    return known


def read_ollama_show(answer: object) -> dict[str, Any]:
    """What Ollama's ``POST /api/show`` adds (docs/api.md). The length it runs with it does not tell."""
    told = answer.get("capabilities") if isinstance(answer, Mapping) else None
    if not isinstance(told, list):
        return {}
    return {"reasoning": "thinking" in told} | ({} if "vision" in told else {"image_limit": 0})


def _mapping(card: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = card.get(name)
    return value if isinstance(value, Mapping) else {}
