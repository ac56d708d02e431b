"""What vLLM's log tells: how far a start is, and why it failed. The lines are vLLM's own, shortened."""

import json
import logging
import logging.config
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from backend import vllm_log
from backend.vllm_log import failure, prepare_log, read_tail, size, stage, write_error

PREFIX = "2026-05-01 10:00:00,000 EngineCore INFO vllm.v1.engine.core: "
# The dump names settings that look like causes of failures; so do lines of warnings.
CONFIG_DUMP = (
    PREFIX + "Initializing a V1 LLM engine (v0.32.0) with config: model='x', speculative_config=None, "
    "tokenizer='x', trust_remote_code=False, max_seq_len=4096, max_model_len=4096, tensor_parallel_size=1, "
    "load_format=auto, config.json, out of memory, gated repo"
)
START = (
    (PREFIX + "non-default args: {'model': 'x'}", "Starting vLLM"),
    (PREFIX + "Resolved architecture: PixtralForConditionalGeneration", "Reading the model's settings"),
    (CONFIG_DUMP, "Starting the engine"),
    (PREFIX + "Starting to load model x...", "Loading the weights"),
    (PREFIX + "Loading weights took 1.23 seconds", "Preparing memory"),
    (PREFIX + "Initializing model took 1.50 seconds", "Preparing memory"),
    (PREFIX + "GPU KV cache size: 16,384 tokens", "Warming up"),
    (PREFIX + "Capturing CUDA graphs (mixed prefill-decode, PIECEWISE):   0%", "Warming up"),
)


@pytest.fixture
def no_config_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_LOGGING_CONFIG_PATH", "to be deleted afterwards, whatever the test sets")
    monkeypatch.delenv("VLLM_LOGGING_CONFIG_PATH")


@pytest.fixture
def kept_loggers() -> Iterator[None]:
    """The handlers and levels of the loggers that a configuration of logging changes."""
    loggers = [logging.getLogger(), logging.getLogger("vllm")]
    before = [(logger, list(logger.handlers), logger.level, logger.propagate) for logger in loggers]
    yield
    for logger, handlers, level, propagate in before:
        for handler in set(logger.handlers) - set(handlers):
            handler.close()
        logger.handlers[:] = handlers
        logger.setLevel(level)
        logger.propagate = propagate


@pytest.mark.parametrize("length", range(len(START) + 1))
def test_stages_follow_the_lines_of_a_start(length: int) -> None:
    log = "\n".join(line for line, _ in START[:length])

    assert stage(log) == (START[length - 1][1] if length else "Starting vLLM")


def test_a_second_start_in_the_same_log_begins_anew() -> None:
    log = "\n".join(line for line, _ in (*START, *START[:4]))

    assert stage(log) == "Loading the weights"


GATED = "This model is gated: its owner"
NO_ACCESS = "This model is gated, and the token in HF_TOKEN has no access"
UNKNOWN_NAME = "The Hugging Face hub has no model of this name"
OFFLINE = "The model is not on this machine, and the Hugging Face hub cannot be reached"
CONVERSATION = "There is too little memory for one conversation"
MEMORY = "The model is too large for the free memory"
WEIGHTS = "The model's folder holds no weights"
ARCHITECTURE = "This version of vLLM does not know this kind of model"
REMOTE_CODE = "This model wants to run code of its own"
LENGTH = "The --max-model-len that was given does not fit"
GPUS = "There are fewer GPUs here"
NO_MODEL = "The folder or name does not hold a model"
UNKNOWN = "vLLM could not start."

CAUSES = [
    (
        "huggingface_hub.errors.GatedRepoError: 401 Client Error. (Request ID: Root=1-68) Cannot access "
        "gated repo for url https://huggingface.co/mistralai/Mistral-Small-3.1-24B-Instruct-2503/resolve/main/x.",
        GATED,
    ),
    (
        "huggingface_hub.errors.GatedRepoError: 403 Client Error. (Request ID: Root=1-68) Access to model "
        "owner/gated is restricted and you are not in the authorized list. Visit its page to ask for access.",
        NO_ACCESS,
    ),
    (
        "OSError: You are trying to access a gated repo. Make sure to have access to it at "
        "https://huggingface.co/google/gemma-3-4b-it.",
        GATED,
    ),
    (
        "huggingface_hub.errors.RepositoryNotFoundError: 404 Client Error. (Request ID: Root=1-68) "
        "Repository Not Found for url: https://huggingface.co/api/models/owner/absent.",
        UNKNOWN_NAME,
    ),
    (
        "huggingface_hub.errors.RepositoryNotFoundError: 401 Client Error. Repository Not Found for url: "
        "https://huggingface.co/owner/absent. If you are trying to access a private or gated repo, make sure "
        "you are authenticated.",
        UNKNOWN_NAME,
    ),
    (
        "huggingface_hub.errors.LocalEntryNotFoundError: Cannot find an appropriate cached snapshot folder "
        "for the specified revision on the local disk and outgoing traffic has been disabled.",
        OFFLINE,
    ),
    (
        "OSError: We couldn't connect to 'https://huggingface.co' to load the files, and couldn't find them "
        "in the cached files.",
        OFFLINE,
    ),
    ("httpx.ConnectError: [Errno -2] Name or service not known", OFFLINE),
    (
        "requests.exceptions.ConnectionError: HTTPSConnectionPool(host='huggingface.co', port=443): Max "
        "retries exceeded with url: /api/models/owner/model",
        OFFLINE,
    ),
    (
        "ValueError: To serve at least one request with the models's max seq len (131072), (16.00 GiB KV "
        "cache is needed, which is larger than the available KV cache memory (4.00 GiB). Based on the "
        "available memory, the estimated maximum model length is 32768. Try increasing "
        "`gpu_memory_utilization` or decreasing `max_model_len` when initializing the engine.",
        CONVERSATION,
    ),
    (
        "ValueError: No available memory for the cache blocks. Try increasing `gpu_memory_utilization` when "
        "initializing the engine.",
        MEMORY,
    ),
    (
        "ValueError: Available memory on node 0 (11.53/14.59 GiB) on startup is less than desired CPU memory "
        "utilization (0.92, 13.42 GiB).",
        MEMORY,
    ),
    (
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 1.25 GiB. GPU 0 has a total capacity "
        "of 23.55 GiB of which 832.00 MiB is free.",
        MEMORY,
    ),
    (
        "RuntimeError: [enforce fail at alloc_cpu.cpp:121] err == 0. DefaultCPUAllocator: "
        "can't allocate memory",
        MEMORY,
    ),
    ("RuntimeError: Cannot find any model weights with `/models/empty`", WEIGHTS),
    (
        "pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig\n  Value error, "
        "Model architectures ['NoSuchModel'] are not supported for now. Supported architectures: ...",
        ARCHITECTURE,
    ),
    (
        "ValueError: The checkpoint you are trying to load has model type `new` but Transformers does not "
        "recognize this architecture.",
        ARCHITECTURE,
    ),
    (
        "ValueError: The repository owner/model contains custom code which must be executed to correctly "
        "load the model. Please pass the argument `trust_remote_code=True` to allow custom code to be run.",
        REMOTE_CODE,
    ),
    (
        "pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig\n  Value error, "
        "User-specified max_model_len (100000) is greater than the derived max_model_len "
        "(max_position_embeddings=4096 or model_max_length=None in model's config.json).",
        LENGTH,
    ),
    (
        "ValueError: World size (8) is larger than the number of available GPUs (1) in this node. If this is "
        "intentional and you are using: ...",
        GPUS,
    ),
    (
        "ValueError: Invalid repository ID or local directory specified: '/models/empty'. Please verify the "
        "following requirements: 1. Provide a valid Hugging Face repository ID. 2. Specify a local directory "
        "that contains a recognized configuration file. For Hugging Face models: ensure the presence of a "
        "'config.json'. For Mistral models: ensure the presence of a 'params.json'.",
        NO_MODEL,
    ),
    (
        "huggingface_hub.errors.HFValidationError: Repo id must be in the form 'repo_name' or "
        "'namespace/repo_name': 'a b'.",
        NO_MODEL,
    ),
    ("RuntimeError: Something that nobody has met yet", UNKNOWN),
]


# pydantic's, of several lines, come from vLLM's configuration, which is made in this process.
@pytest.mark.parametrize(("line", "told"), [case for case in CAUSES if "\n" not in case[0]])
def test_a_cause_that_a_child_logged_is_told(line: str, told: str) -> None:
    prefix = PREFIX.replace("INFO", "ERROR")
    log = f"{CONFIG_DUMP}\n{prefix}Traceback (most recent call last):\n{prefix}{line}\n"
    error = RuntimeError("Engine core initialization failed. See root cause above. Failed core proc(s): {}")

    assert failure(error, log).what.startswith(told)


@pytest.mark.parametrize(("line", "told"), CAUSES)
def test_a_cause_that_was_raised_here_is_told(line: str, told: str) -> None:
    kind, _, message = line.partition(": ")
    error = type(kind.rpartition(".")[2], (Exception,), {})(message)

    assert failure(error, CONFIG_DUMP).what.startswith(told)


def test_the_cause_behind_an_error_counts() -> None:
    inner = type("GatedRepoError", (Exception,), {})("no")
    outer = RuntimeError("Something went wrong")
    outer.__cause__ = RuntimeError("and before that")
    outer.__cause__.__context__ = inner

    assert failure(outer, "").what.startswith(GATED)


def test_what_was_raised_here_counts_more_than_what_was_logged() -> None:
    error = ValueError("User-specified max_model_len (100000) is greater than the derived max_model_len")
    log = PREFIX.replace("INFO", "ERROR") + "httpx.ConnectError: [Errno -2] Name or service not known\n"

    assert failure(error, log).what.startswith(LENGTH)


def test_of_what_was_logged_the_last_error_counts() -> None:
    prefix = PREFIX.replace("INFO", "ERROR")
    log = (
        f"{prefix}ConnectionError: Cannot reach the hub, trying the cache\n"
        f"{prefix}Traceback (most recent call last):\n  File x\nRuntimeError: Cannot find any model weights\n"
        f"{prefix}RuntimeError: Engine core initialization failed.\n"
    )

    assert failure(RuntimeError("Engine core initialization failed."), log).what.startswith(WEIGHTS)


@pytest.mark.parametrize("level", ["INFO", "WARNING"])
def test_what_was_only_warned_of_is_no_cause(level: str) -> None:
    log = PREFIX.replace("INFO", level) + "Retrying after requests.exceptions.ConnectionError: Max retries\n"

    assert failure(RuntimeError("Engine core initialization failed."), log).what == UNKNOWN


@pytest.mark.parametrize("before", ["", "(EngineCore pid=77) "])
def test_a_traceback_that_a_child_printed_counts(before: str) -> None:
    lines = ("Process EngineCore:", "Traceback (most recent call last):", "torch.OutOfMemoryError: CUDA")
    log = "".join(f"{before}{line} out of memory\n" for line in lines)

    assert failure(RuntimeError("Engine core initialization failed."), log).what.startswith(MEMORY)


def test_what_vllm_says_of_its_settings_is_no_cause() -> None:
    assert failure(RuntimeError("Engine core initialization failed."), CONFIG_DUMP).what == UNKNOWN


def test_what_is_told_holds_nothing_of_the_log() -> None:
    told = failure(RuntimeError("at /home/person/model with sk-hidden"), "ValueError: /home/person sk-hidden")

    assert "/home/person" not in str(told)
    assert "sk-hidden" not in str(told)


@pytest.mark.usefixtures("no_config_path", "kept_loggers")
def test_vllm_and_its_children_log_to_the_file_and_not_to_the_console(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    log = prepare_log(tmp_path / "logs")
    config = json.loads(Path(os.environ["VLLM_LOGGING_CONFIG_PATH"]).read_text())

    logging.config.dictConfig(config)
    logging.getLogger("vllm.v1.engine").info("Starting to load model")
    logging.getLogger("vllm.v1.engine").debug("Details")
    logging.getLogger("some_library").warning("Trouble")
    logging.getLogger("some_library").info("Chatter")

    written = read_tail(log)
    assert written.count("Starting to load model") == 1
    assert "INFO vllm.v1.engine: " in written
    assert "Trouble" in written
    assert "Details" not in written
    assert "Chatter" not in written
    assert capfd.readouterr() == ("", "")


CHILD_THAT_PRINTS = """
import json, logging.config, multiprocessing, os, sys

def child(config):
    logging.config.dictConfig(json.load(open(config)))
    logging.getLogger("vllm").error("logged")
    print("printed", flush=True)
    print("complained", file=sys.stderr, flush=True)
    os.write(2, b"written by compiled code")

if __name__ == "__main__":
    process = multiprocessing.get_context("spawn").Process(target=child, args=(sys.argv[1],))
    process.start()
    process.join()
    print("the parent", process.exitcode)
"""


@pytest.mark.usefixtures("no_config_path")
def test_what_a_child_prints_goes_to_the_log_too(tmp_path: Path) -> None:
    log = prepare_log(tmp_path)
    script = tmp_path / "parent.py"
    script.write_text(CHILD_THAT_PRINTS)

    result = subprocess.run(
        [sys.executable, str(script), os.environ["VLLM_LOGGING_CONFIG_PATH"]],
        env={"PYTHONPATH": str(Path(vllm_log.__file__).parents[1])},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert (result.stdout, result.stderr) == ("the parent 0\n", "")
    written = read_tail(log)
    for part in ("logged", "printed", "complained", "written by compiled code"):
        assert part in written


@pytest.mark.usefixtures("no_config_path")
def test_the_last_log_is_kept_beside_the_new_one(tmp_path: Path) -> None:
    first = prepare_log(tmp_path)
    first.write_text("the first start")
    second = prepare_log(tmp_path)

    assert second.read_text() == ""
    assert (tmp_path / "engine.previous.log").read_text() == "the first start"

    second.write_text("the second start")
    prepare_log(tmp_path)

    assert (tmp_path / "engine.previous.log").read_text() == "the second start"


@pytest.mark.usefixtures("no_config_path")
def test_only_their_owner_reads_logs(tmp_path: Path) -> None:
    log = prepare_log(tmp_path / "logs")

    assert stat.S_IMODE(log.stat().st_mode) & 0o077 == 0
    assert stat.S_IMODE(log.parent.stat().st_mode) & 0o077 == 0


def test_a_logging_configuration_that_the_person_set_stays(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("VLLM_LOGGING_CONFIG_PATH", "/their/own.json")

    prepare_log(tmp_path)

    assert os.environ["VLLM_LOGGING_CONFIG_PATH"] == "/their/own.json"


def test_of_a_long_log_only_the_end_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(vllm_log, "TAIL_BYTES", 8)
    log = tmp_path / "engine.log"

    assert read_tail(log) == ""

    log.write_bytes(b"short")
    assert read_tail(log) == "short"

    log.write_bytes("beginning, ü end".encode())
    assert read_tail(log) == ", ü end"


def test_what_an_earlier_start_wrote_can_be_left_out(tmp_path: Path) -> None:
    log = tmp_path / "engine.log"
    assert size(log) == 0
    log.write_bytes(b"earlier\n")
    start = size(log)
    assert read_tail(log, start) == ""

    write_error(log, RuntimeError("now"))

    assert read_tail(log, start) == "RuntimeError: now\n"
    assert read_tail(log).startswith("earlier\n")


def test_half_a_character_at_the_cut_is_no_trouble(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(vllm_log, "TAIL_BYTES", 5)
    log = tmp_path / "engine.log"
    log.write_bytes("x€ end".encode())

    assert read_tail(log).endswith(" end")
