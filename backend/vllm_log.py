"""vLLM's log: where it goes, and what it tells about a start and its failure. Imports no vLLM.

vLLM reports its progress, and in child processes the cause of a failure, only by logging; its
processes all read the ``logging.config`` dictionary that VLLM_LOGGING_CONFIG_PATH names.
"""

import json
import logging
import multiprocessing
import os
import re
import traceback
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from backend.errors import EngineUnavailableError

TAIL_BYTES = 200_000


def prepare_log(folder: Path) -> Path:
    """Start a new engine log in ``folder``, keeping the last one beside it; returns its path.

    Sets VLLM_LOGGING_CONFIG_PATH unless the person has set it; call it before vLLM is imported.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    log = folder / "engine.log"
    if log.exists():
        log.replace(folder / "engine.previous.log")
    log.touch(mode=0o600)
    config = folder / "engine-logging.json"
    config.write_text(json.dumps(_logging_config(log), indent=1))
    os.environ.setdefault("VLLM_LOGGING_CONFIG_PATH", str(config))
    return log


class EngineLogHandler(logging.FileHandler):
    """Writes to the engine's log; so does, in vLLM's children, all that they print.

    A child that fails prints its traceback, compiled code its warnings: neither belongs on the
    console of the person who started the app.
    """

    def __init__(self, filename: str, encoding: str) -> None:
        super().__init__(filename, encoding=encoding)  # appends, so the processes share the file
        # Not parent_process(): a spawned child imports vLLM, and with it this, before it knows its parent.
        if multiprocessing.current_process().name != "MainProcess":
            with open(filename, "ab") as log:
                for descriptor in (1, 2):
                    os.dup2(log.fileno(), descriptor)


def _logging_config(log: Path) -> dict[str, Any]:
    """A ``logging.config`` schema, version 1: everything to the file, nothing to the console."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"line": {"format": "%(asctime)s %(processName)s %(levelname)s %(name)s: %(message)s"}},
        "handlers": {
            "file": {
                "class": f"{__name__}.{EngineLogHandler.__name__}",
                "filename": str(log),
                "formatter": "line",
                "encoding": "utf-8",
            }
        },
        "root": {"handlers": ["file"], "level": "WARNING"},
        "loggers": {"vllm": {"handlers": ["file"], "level": "INFO", "propagate": False}},
    }


def size(log: Path) -> int:
    """How many bytes it has; none where there is none."""
    try:
        return log.stat().st_size
    except OSError:
        return 0


def read_tail(log: Path, since: int = 0) -> str:
    """The end of what was written after the first ``since`` bytes; empty where there is none."""
    try:
        with log.open("rb") as file:
            file.seek(max(since, file.seek(0, os.SEEK_END) - TAIL_BYTES))
            return file.read().decode("utf-8", errors="replace")
    except OSError:
        return ""


def write_error(log: Path, error: BaseException) -> None:
    """Add the error with its traceback: of what fails early, vLLM itself logs nothing."""
    with suppress(OSError), log.open("a", encoding="utf-8") as file:
        traceback.print_exception(error, file=file)


# vLLM's line -> what a person is told while it is the latest of these. In the order of a start.
_STAGES = (
    ("Resolved architecture", "Reading the model's settings"),
    ("Initializing a V1 LLM engine", "Starting the engine"),
    ("Starting to load model", "Loading the weights"),
    ("Loading model from scratch", "Loading the weights"),
    ("Model loading took", "Compiling, which takes longest the first time"),
    ("torch.compile took", "Preparing memory"),
    ("Loading weights took", "Preparing memory"),
    ("Initializing model took", "Preparing memory"),
    ("KV cache size", "Warming up"),
    ("Capturing CUDA graphs", "Warming up"),
)


def stage(log: str) -> str:
    """How far a start is, in a few words."""
    latest = [(log.rfind(sign), words) for sign, words in _STAGES]
    position, words = max(latest)
    return words if position >= 0 else "Starting vLLM"


NOT_READABLE = "The folder or name does not hold a model that vLLM can read."
# (sign in an error, what happened, what to do): the first that is found is told.
_CAUSES = (
    (
        r"not in the authorized list",
        "This model is gated, and the token in HF_TOKEN has no access to it yet.",
        "Accept its conditions on its Hugging Face page with the token's account; some owners look at each "
        "request.",
    ),
    (
        r"GatedRepoError|Access to model .* is restricted|(?<!private or )gated repo",
        "This model is gated: its owner must grant access first.",
        "Accept its conditions on its Hugging Face page, then set HF_TOKEN to a token with read access.",
    ),
    (
        r"RepositoryNotFoundError|Repository Not Found|401 Client Error",
        "The Hugging Face hub has no model of this name, or does not show it to you.",
        "Check the spelling as owner/name; for a private or gated model set HF_TOKEN.",
    ),
    (
        r"LocalEntryNotFoundError|OfflineModeIsEnabled|ConnectError|ConnectionError|Cannot reach|"
        r"couldn't connect to|MaxRetryError|Name or service not known|Temporary failure in name resolution",
        "The model is not on this machine, and the Hugging Face hub cannot be reached.",
        "Check the network (and HF_HUB_OFFLINE), or give the path of a model folder.",
    ),
    (
        r"To serve at least one request with the models?'s max seq len",
        "There is too little memory for one conversation of this model's full length.",
        "Give a smaller --max-model-len, or a larger --kv-cache-memory-bytes.",
    ),
    (
        r"No available memory for the cache blocks|is less than desired|out of memory|OutOfMemoryError|"
        r"can't allocate memory|Cannot allocate memory|MemoryError",
        "The model is too large for the free memory of this machine.",
        "Choose a smaller or a quantised model, give a smaller --max-model-len, or stop other programs.",
    ),
    (
        r"Cannot find any model weights|no safetensors|Cannot find any of|consolidated.*not found",
        "The model's folder holds no weights that vLLM can read.",
        "Check that the download is complete, and --load-format.",
    ),
    (
        r"Unrecognized model|does not recognize this architecture|are not supported for now|"
        r"No model architectures are specified|is not supported by|Cannot find model module",
        "This version of vLLM does not know this kind of model.",
        "Check --config-format and the list of supported models in vLLM's documentation.",
    ),
    (
        r"trust_remote_code",
        "This model wants to run code of its own from its repository.",
        "If you trust its owner, add --trust-remote-code.",
    ),
    (
        r"max_model_len|max seq len|max_position_embeddings",
        "The --max-model-len that was given does not fit this model.",
        "Give a smaller one, or leave it out.",
    ),
    (
        r"World size|larger than the number of available GPUs|tensor parallel size",
        "There are fewer GPUs here than --tensor-parallel-size asks for.",
        "Give a number that this machine has.",
    ),
    (
        r"config\.json|params\.json|Invalid repository ID|Repo id must be",
        NOT_READABLE,
        "Check the path; Mistral's own format needs --config-format mistral --load-format mistral "
        "--tokenizer-mode mistral.",
    ),
)


# An exception that was logged as an error, or the last line of a traceback, before which vLLM's children may
# print "(EngineCore pid=7) ". The log's other lines name settings that the signs above would match, and
# warnings name trouble that was overcome.
_ERROR_LINE = re.compile(
    r"^(?:\d{4}-\d\d-\d\d [\d:,]+ \S+ (?:ERROR|CRITICAL) .*?\b|(?:\([^)]*\) )?[\w.]*?\b)"
    r"(\w*(?:Error|Exception): .*)$",
    re.MULTILINE,
)


def failure(
    error: BaseException | None, log: str, otherwise: EngineUnavailableError | None = None
) -> EngineUnavailableError:
    """Why the engine did not start, in our own words; ``log`` is what was logged of this start.

    What was raised here counts most, then what was logged last; ``otherwise`` is told where nothing is known.
    """
    for evidence in ("\n".join(_chain(error)), *reversed(_ERROR_LINE.findall(log))):
        for sign, what, action in _CAUSES:
            if re.search(sign, evidence, re.IGNORECASE):
                return EngineUnavailableError(what, action)
    return otherwise or EngineUnavailableError("vLLM could not start.", "The engine's log names the cause.")


def _chain(error: BaseException | None) -> Iterator[str]:
    while error is not None:
        yield f"{type(error).__name__}: {error}"
        error = error.__cause__ or error.__context__
