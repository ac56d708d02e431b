"""What the person asked vLLM for, as the argument list that vLLM's own parser gets. Imports no vLLM."""

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from backend.dialect import Dialect
from backend.errors import ConfigError

DEMO_MODEL = Path(__file__).resolve().parents[1] / "assets" / "demo-model"
DEMO_NAME = "sightline-demo"
DEMO_FLAGS = (
    *("--tokenizer-mode", "mistral", "--config-format", "mistral", "--load-format", "mistral"),
    *("--served-model-name", DEMO_NAME),
    # It never learned JSON: where white space is allowed between two parts, it goes on with that for ever.
    *("--structured-outputs-config", '{"backend": "xgrammar", "disable_any_whitespace": true}'),
    # At vLLM's 1.0 the answers of so small a model are wrong more often than it is.
    *("--override-generation-config", '{"temperature": 0.3}'),
)
QUIET_FLAGS = ("--no-use-tqdm-on-load",)  # the page shows the progress
DEMO_KV_CACHE_BYTES = 256 * 2**20
GIB = 2**30
FLAG_SOURCES = ("engine/arg_utils.py", "entrypoints/**/cli_args.py")  # in vLLM 0.26 to 0.32
# Each may go on: -O3, -cc.mode=3, --compilation-config.mode 3 (vLLM, argparse_utils.py).
COMPILATION_FLAGS = (
    *("--enforce-eager", "--no-enforce-eager"),
    *("--compilation-config", "-cc", "--optimization-level", "-O"),
)

# Secrets in argv can be read by every user of the machine (`ps`), and stay in the shell's history.
SECRET_FLAGS = {"--api-key": "VLLM_API_KEY", "--hf-token": "HF_TOKEN"}
# Of vLLM's HTTP server, which is not started here: who relies on one of these would be reached otherwise
# than they think, or not be protected. (vLLM, FrontendArgs and make_arg_parser.)
SERVER_FLAGS = (
    *("--ssl-keyfile", "--ssl-certfile", "--ssl-ca-certs", "--ssl-cert-reqs", "--ssl-ciphers"),
    *("--enable-ssl-refresh", "--uds", "--root-path", "--middleware"),
    *("--allowed-origins", "--allowed-methods", "--allowed-headers", "--allow-credentials"),
    *("--headless", "--api-server-count", "-asc", "--grpc", "--grpc-port"),
)


@dataclass(frozen=True, slots=True)
class EnginePlan:
    """What to start: ``argv`` for vLLM's parser, the model's name, why that one, and what was translated.

    ``request`` are fields that each request to this model gets, ``dialect`` how it wants its messages,
    ``remarks`` what the page says of it, ``weights_bytes`` how much of it there is to download, where that is
    known.
    """

    argv: tuple[str, ...]
    model: str
    reason: str
    notices: tuple[str, ...] = ()
    request: tuple[tuple[str, Any], ...] = ()
    dialect: Dialect = field(default_factory=Dialect)
    remarks: tuple[str, ...] = ()
    weights_bytes: int | None = None

    @property
    def is_demo(self) -> bool:
        return self.model == DEMO_NAME

    @property
    def is_local(self) -> bool:
        """Whether the model is a folder of this machine, so that nothing need be asked of the hub."""
        return self.is_demo or Path(self.model).exists()


def plan_engine(model: str | None, flags: Sequence[str], default: str | None = None) -> EnginePlan:
    """Decide what to start from ``--model`` and from the flags that are not the app's own.

    The model may stand first among ``flags`` too, as ``vllm serve`` takes it. With neither it is
    ``default``, which the environment names, and without that the demo.

    Raises:
        ConfigError: a secret or a flag of vLLM's server among the flags, two models, or none where a
            --config file may name one, or a folder that is not there.
    """
    refuse_secrets(flags)
    refuse_server_flags(flags)
    positional = flags[0] if flags and not flags[0].startswith("-") else None
    if positional is not None and model is not None and positional != model:
        raise ConfigError(
            f"Two models were named: “{positional}” and “{model}”.", "Name one, first or with --model."
        )
    chosen = positional or model or default
    rest, notices = translate_limits(flags[1:] if positional is not None else flags)
    if chosen is None and "--config" in flag_names(rest):
        raise ConfigError(
            "A --config file was given, but no model.", "Name the model too, first or with --model."
        )
    if chosen in (None, DEMO_NAME):
        argv = ("--model", str(DEMO_MODEL), *without_overridden(DEMO_FLAGS, rest), *rest)
        return EnginePlan(argv, DEMO_NAME, "you named it" if chosen else "no other was named", notices)
    check_folder(chosen)
    chosen = os.path.expanduser(chosen)  # vLLM takes ~/folder for a hub id
    return EnginePlan(("--model", chosen, *rest), chosen, "you named it", notices)


def refuse_secrets(flags: Sequence[str]) -> None:
    """Raise ConfigError, without the value, where a flag carries a secret."""
    for name in flag_names(flags):
        secret = meant_flag(name, SECRET_FLAGS)
        if secret:
            raise ConfigError(
                f"{secret} is not taken on the command line, where every user of this machine can read it.",
                f"Set the environment variable {SECRET_FLAGS[secret]}, or put it into an --env-file.",
            )


def refuse_server_flags(flags: Sequence[str]) -> None:
    """Raise ConfigError where a flag is for vLLM's HTTP server."""
    for name in sorted(flag_names(flags)):
        if meant := meant_flag(name, SERVER_FLAGS):
            raise ConfigError(
                f"Sightline serves the page itself, so {meant} has no effect here.",
                "Leave it out, and put TLS and paths into a proxy before it.",
            )


def check_folder(model: str) -> None:
    """Raise ConfigError where ``model`` is plainly a folder (no hub id looks like that) and is not there."""
    path = os.path.expanduser(model)  # Path.expanduser raises where there is no such user
    if (model.startswith((".", "/", "~")) or model.count("/") > 1) and not os.path.exists(path):
        raise ConfigError(
            f"There is no model folder “{model}”.",
            "Check the path, or name a model of the Hugging Face hub as owner/name.",
        )


def translate_limits(flags: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Turn ``--limit-mm-per-prompt image=4``, as vLLM took it until 0.8, into today's JSON; say so.

    Returns the flags and the notices.
    """
    translated: list[str] = []
    notices: list[str] = []
    previous = ""
    for item in flags:
        name, equals, value = item.partition("=")
        joined = bool(equals) and flag_name(name) == "--limit-mm-per-prompt"
        old = value if joined else item if flag_name(previous) == "--limit-mm-per-prompt" else ""
        new = _limits_as_json(old)
        if new is not None:
            notices.append(f"--limit-mm-per-prompt {old} is an old spelling; read as '{new}'.")
            translated.append(f"{name}={new}" if joined else new)
        else:
            translated.append(item)
        previous = item
    return tuple(translated), tuple(notices)


def _limits_as_json(value: str) -> str | None:
    """``image=4,video=1`` as ``{"image": 4, "video": 1}``; ``None`` for anything else."""
    pairs = [pair.partition("=") for pair in value.strip("'\"").split(",")]
    if not all(name.isidentifier() and count.isdecimal() for name, _, count in pairs):
        return None
    return json.dumps({name: int(count) for name, _, count in pairs})


def cpu_defaults(plan: EnginePlan, environment: Mapping[str, str], available_bytes: int) -> tuple[str, ...]:
    """The flags that a start on the CPU needs and that the person did not give.

    Without a size for the KV cache vLLM asks for 92 % of the machine's memory and fails. Compiling
    costs minutes on a CPU, and gains little.
    """
    given = flag_names(plan.argv)
    defaults: list[str] = []
    if "--kv-cache-memory-bytes" not in given and "VLLM_CPU_KVCACHE_SPACE" not in environment:
        size = DEMO_KV_CACHE_BYTES if plan.is_demo else max(GIB, min(8 * GIB, available_bytes // 4))
        defaults += ["--kv-cache-memory-bytes", str(size)]
    if not any(name.startswith(COMPILATION_FLAGS) for name in given):
        defaults.append("--enforce-eager")
    return tuple(defaults)


def without_overridden(defaults: Sequence[str], flags: Sequence[str]) -> tuple[str, ...]:
    """``defaults`` (flag, value, flag, value …) less those that ``flags`` give themselves."""
    given = flag_names(flags)
    pairs = zip(defaults[::2], defaults[1::2], strict=True)
    return tuple(item for name, value in pairs if name not in given for item in (name, value))


def vllm_version() -> str:
    """The installed vLLM's version, of whichever build; empty where there is none."""
    return _installed()[1]


def is_for_processor() -> bool:
    """Whether a vLLM is installed that leaves GPUs alone; vLLM's own such builds are called ``+cpu``."""
    name, version = _installed()
    return name == "vllm-cpu" or "+cpu" in version


def _installed() -> tuple[str, str]:
    for name in ("vllm", "vllm-cpu"):
        with suppress(metadata.PackageNotFoundError):
            return name, metadata.version(name)
    return "", ""


def flag_names(flags: Sequence[str]) -> frozenset[str]:
    return frozenset(flag_name(item) for item in flags if item.startswith("-"))


def meant_flag(name: str, known: Iterable[str]) -> str | None:
    """The flag that ``name`` is, or begins: vLLM's parser takes unambiguous beginnings too."""
    return next((flag for flag in known if flag == name or (flag.startswith(name) and len(name) > 4)), None)


def is_mentioned(name: str) -> bool:
    """Whether vLLM's sources name a flag, or one that it begins.

    Its parser knows exactly, but importing it takes many seconds.
    """
    spec = find_spec("vllm")
    folders = [Path(folder) for folder in (spec.submodule_search_locations if spec else None) or ()]
    sources = [path for folder in folders for kind in FLAG_SOURCES for path in folder.glob(kind)]
    spelt = re.escape(name.lstrip("-").removeprefix("no-").partition(".")[0])
    field = spelt.replace("\\-", "_")  # of a class whose fields become flags
    mention = re.compile(rf"[\"']--{spelt}|^ +{field}\w*:", re.MULTILINE)
    return any(mention.search(path.read_text(encoding="utf-8")) for path in sources)


def flag_name(item: str) -> str:
    """``--tokenizer_mode=mistral`` -> ``--tokenizer-mode``: vLLM takes underscores for dashes."""
    return item.partition("=")[0].replace("_", "-")
