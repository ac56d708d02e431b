"""The lists of models that real servers give, cut down to one or two models; the fields are all theirs."""

from typing import Any

from fault_server import Call, Play

Json = Any

# vLLM 0.32, entrypoints/serve/engine/protocol.py: ModelCard.
VLLM = {
    "object": "list",
    "data": [
        {
            "id": "mistralai/Mistral-Small-3.1-24B-Instruct-2503",
            "object": "model",
            "created": 1742550000,
            "owned_by": "vllm",
            "root": "mistralai/Mistral-Small-3.1-24B-Instruct-2503",
            "parent": None,
            "max_model_len": 16384,
            "permission": [
                {
                    "id": "modelperm-1",
                    "object": "model_permission",
                    "created": 1742550000,
                    "allow_create_engine": False,
                    "allow_sampling": True,
                    "allow_logprobs": True,
                    "allow_search_indices": False,
                    "allow_view": True,
                    "allow_fine_tuning": False,
                    "organization": "*",
                    "group": None,
                    "is_blocking": False,
                }
            ],
        }
    ],
}
# llama.cpp b9222, tools/server/README.md, GET /v1/models: an OpenAI list and an Ollama one in one object.
LLAMACPP = {
    "models": [
        {
            "name": "gemma-3-4b-it",
            "model": "gemma-3-4b-it",
            "modified_at": "",
            "size": "",
            "digest": "",
            "type": "model",
            "description": "",
            "tags": [""],
            "capabilities": ["completion", "multimodal"],
            "parameters": "",
            "details": {
                "parent_model": "",
                "format": "gguf",
                "family": "",
                "families": [""],
                "parameter_size": "",
                "quantization_level": "",
            },
        }
    ],
    "object": "list",
    "data": [
        {
            "id": "gemma-3-4b-it",
            "aliases": ["gemma-3-4b-it"],
            "tags": [],
            "object": "model",
            "created": 1783986018,
            "owned_by": "llamacpp",
            "meta": {
                "vocab_type": 1,
                "n_vocab": 262144,
                "n_ctx": 8192,
                "n_ctx_train": 131072,
                "n_embd": 2560,
                "n_params": 3880099328,
                "size": 2482733056,
                "ftype": "Q4_K_M",
            },
        }
    ],
}
# The same server, GET /props. Its context is that of one slot.
LLAMACPP_PROPS = {
    "default_generation_settings": {
        "id": 0,
        "id_task": -1,
        "n_ctx": 8192,
        "speculative": False,
        "is_processing": False,
        "params": {"n_predict": -1, "seed": 4294967295, "temperature": 0.8, "max_tokens": -1},
    },
    "total_slots": 1,
    "model_alias": "gemma-3-4b-it",
    "model_path": "/srv/models/gemma-3-4b-it-Q4_K_M.gguf",
    "chat_template": "{{ bos_token }}…",
    "chat_template_caps": {},
    "modalities": {"vision": True, "audio": False},
    "media_marker": "<__media__>",
    "build_info": "b9222-3d0a1d4c",
    "is_sleeping": False,
}
# Ollama, openai/openai.go: Model and ListCompletion.
OLLAMA = {
    "object": "list",
    "data": [
        {"id": "gemma3:latest", "object": "model", "created": 1755211783, "owned_by": "library"},
        {"id": "llama3.2:1b", "object": "model", "created": 1727352683, "owned_by": "library"},
    ],
}
# docs.ollama.com, "Show model details", by model; without the licence's text.
OLLAMA_SHOW = {
    "gemma3:latest": {
        "parameters": "temperature 0.7\nnum_ctx 2048",
        "license": "Gemma Terms of Use",
        "capabilities": ["completion", "vision"],
        "modified_at": "2025-08-14T15:49:43.634137516-07:00",
        "details": {
            "parent_model": "",
            "format": "gguf",
            "family": "gemma3",
            "families": ["gemma3"],
            "parameter_size": "4.3B",
            "quantization_level": "Q4_K_M",
        },
        "model_info": {
            "gemma3.attention.head_count": 8,
            "gemma3.block_count": 34,
            "gemma3.context_length": 131072,
            "gemma3.embedding_length": 2560,
            "gemma3.mm.tokens_per_image": 256,
            "gemma3.vision.image_size": 896,
            "general.architecture": "gemma3",
            "general.parameter_count": 4299915632,
        },
    },
    "llama3.2:1b": {
        "parameters": "",
        "license": "Llama 3.2 Community License",
        "capabilities": ["completion", "tools"],
        "modified_at": "2024-09-26T12:11:23.634137516-07:00",
        "details": {
            "parent_model": "",
            "format": "gguf",
            "family": "llama",
            "families": ["llama"],
            "parameter_size": "1.2B",
            "quantization_level": "Q8_0",
        },
        "model_info": {
            "general.architecture": "llama",
            "general.parameter_count": 1235814432,
            "llama.context_length": 131072,
        },
    },
}
# SGLang, srt/entrypoints/openai/protocol.py: ModelCard.
SGLANG = {
    "object": "list",
    "data": [
        {
            "id": "Qwen/Qwen2.5-VL-7B-Instruct",
            "object": "model",
            "created": 1742550000,
            "owned_by": "sglang",
            "root": "Qwen/Qwen2.5-VL-7B-Instruct",
            "parent": None,
            "max_model_len": 128000,
        }
    ],
}
# openrouter.ai/docs/models: no "object".
OPENROUTER = {
    "data": [
        {
            "id": "mistralai/mistral-small-3.1-24b-instruct",
            "canonical_slug": "mistralai/mistral-small-3.1-24b-instruct-2503",
            "hugging_face_id": "mistralai/Mistral-Small-3.1-24B-Instruct-2503",
            "name": "Mistral: Mistral Small 3.1 24B",
            "created": 1742238937,
            "description": "Mistral Small 3.1 24B Instruct is an upgraded variant of Mistral Small 3.",
            "context_length": 131072,
            "architecture": {
                "modality": "text+image->text",
                "input_modalities": ["text", "image"],
                "output_modalities": ["text"],
                "tokenizer": "Mistral",
                "instruct_type": None,
            },
            "pricing": {"prompt": "0.00000005", "completion": "0.0000001", "request": "0", "image": "0"},
            "top_provider": {"context_length": 96000, "max_completion_tokens": 96000, "is_moderated": False},
            "per_request_limits": None,
            "supported_parameters": ["max_tokens", "seed", "temperature", "top_p"],
        },
        {
            "id": "deepseek/deepseek-r1",
            "canonical_slug": "deepseek/deepseek-r1",
            "hugging_face_id": "deepseek-ai/DeepSeek-R1",
            "name": "DeepSeek: R1",
            "created": 1737381095,
            "description": "DeepSeek R1 is here.",
            "context_length": 163840,
            "architecture": {
                "modality": "text->text",
                "input_modalities": ["text"],
                "output_modalities": ["text"],
                "tokenizer": "DeepSeek",
                "instruct_type": "deepseek-r1",
            },
            "pricing": {"prompt": "0.0000004", "completion": "0.000002", "request": "0", "image": "0"},
            "top_provider": {"context_length": 163840, "max_completion_tokens": None, "is_moderated": False},
            "per_request_limits": None,
            "supported_parameters": ["include_reasoning", "max_tokens", "reasoning", "temperature"],
        },
    ]
}
# docs.mistral.ai/api, "List available models".
MISTRAL = {
    "object": "list",
    "data": [
        {
            "id": "mistral-small-latest",
            "object": "model",
            "created": 1742550000,
            "owned_by": "mistralai",
            "capabilities": {
                "completion_chat": True,
                "completion_fim": False,
                "function_calling": True,
                "fine_tuning": False,
                "vision": True,
                "classification": False,
            },
            "name": "mistral-small-2503",
            "description": "Official mistral-small-2503 Mistral AI model",
            "max_context_length": 131072,
            "aliases": ["mistral-small-2503"],
            "deprecation": None,
            "default_model_temperature": 0.3,
            "type": "base",
        },
        {
            "id": "mistral-embed",
            "object": "model",
            "created": 1742550000,
            "owned_by": "mistralai",
            "capabilities": {
                "completion_chat": False,
                "completion_fim": False,
                "function_calling": False,
                "fine_tuning": False,
                "vision": False,
                "classification": False,
            },
            "name": "mistral-embed",
            "description": "Official mistral-embed Mistral AI model",
            "max_context_length": 8192,
            "aliases": [],
            "deprecation": None,
            "default_model_temperature": None,
            "type": "base",
        },
    ],
}
# OpenAI API reference, "List models".
OPENAI = {
    "object": "list",
    "data": [
        {"id": "gpt-4o-mini", "object": "model", "created": 1721172741, "owned_by": "system"},
        {"id": "text-embedding-3-small", "object": "model", "created": 1705948997, "owned_by": "system"},
        {"id": "whisper-1", "object": "model", "created": 1677532384, "owned_by": "openai-internal"},
    ],
}
# docs.together.ai/reference/models: an array without anything around it.
TOGETHER = [
    {
        "id": "meta-llama/Llama-4-Scout-17B-16E-Instruct",
        "object": "model",
        "created": 1743810000,
        "type": "chat",
        "display_name": "Llama 4 Scout Instruct (17Bx16E)",
        "organization": "Meta",
        "link": "https://huggingface.co/meta-llama/Llama-4-Scout-17B-16E-Instruct",
        "license": "llama4",
        "context_length": 1048576,
        "pricing": {"hourly": 0, "input": 0.18, "output": 0.59, "base": 0, "finetune": 0},
    },
    {
        "id": "black-forest-labs/FLUX.1-schnell",
        "object": "model",
        "created": 1722470400,
        "type": "image",
        "display_name": "FLUX.1 Schnell",
        "organization": "Black Forest Labs",
        "link": "https://huggingface.co/black-forest-labs/FLUX.1-schnell",
        "license": "apache-2.0",
        "context_length": 0,
        "pricing": {"hourly": 0, "input": 0, "output": 0, "base": 0, "finetune": 0},
    },
]


def lists(body: Json) -> dict[str, Play]:
    """The route of a server that lists this."""
    return {"GET /v1/models": answers(body)}


def answers(body: Json) -> Play:
    """A route that gives this JSON."""

    async def play(call: Call) -> None:
        await call.json(200, body)

    return play


async def _ollama_show(call: Call) -> None:
    shown = OLLAMA_SHOW.get(call.model)
    await (call.json(200, shown) if shown else call.json(404, {"error": f"model '{call.model}' not found"}))


LLAMACPP_ROUTES = {**lists(LLAMACPP), "GET /props": answers(LLAMACPP_PROPS)}
OLLAMA_ROUTES = {**lists(OLLAMA), "POST /api/show": _ollama_show}
