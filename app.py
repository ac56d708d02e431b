"""The command line: one thin command each."""

import asyncio
import difflib
import importlib.util
import inspect
import io
import logging
import os
import shutil
import signal
import sys
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_origin

import typer

from backend.config import ENV_PREFIX, Settings, flag, load_settings
from backend.errors import ConfigError, EngineError, SightlineError
from backend.types import Detail

if TYPE_CHECKING:
    from backend.start import StartPlan

COMMANDS = ("serve", "ask", "caption", "models")
# The settings that a single question has use for.
ASK_SETTINGS = frozenset(
    {"model", "base_url", "api_key_file", "model_info", "data_dir", "system_prompt", "max_file_mb"}
    | {"max_megapixels", "image_side", "fetch_timeout_s", "allow_private_addresses", "idle_timeout_s"}
    | {"max_pdf_pages", "decode_workers", "decode_timeout_s", "decode_memory_mb"}
)
INTERRUPTED = 128 + signal.SIGINT  # a shell's status for what Ctrl-C has ended
PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True}  # to vLLM

console = logging.getLogger("sightline")
cli = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)

EnvFile = Annotated[Path | None, typer.Option(help="File of VARIABLE=value lines to read first.")]


def _print_version(wanted: bool) -> None:
    if wanted:
        from backend.plugin_path import version

        typer.echo(f"sightline {version()}")
        raise typer.Exit


@cli.callback()
def sightline(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version.")
    ] = False,
) -> None:
    """Chat about pictures in the browser, with vLLM in the same process or any OpenAI-compatible server."""


def _with_settings(names: Collection[str]) -> Callable[[Any], Any]:
    """Give a command one flag for each of these settings, which are declared in one place only."""

    def decorate(function: Any) -> Any:
        own = [p for p in inspect.signature(function).parameters.values() if p.kind is not p.VAR_KEYWORD]
        flags = [_setting(name) for name in Settings.model_fields if name in names]
        parameters = [p.replace(kind=p.KEYWORD_ONLY) for p in (*own, *flags)]
        function.__signature__ = inspect.Signature(parameters)
        function.__annotations__ = {p.name: p.annotation for p in parameters}
        return function

    return decorate


def _setting(name: str) -> inspect.Parameter:
    field = Settings.model_fields[name]
    kind: Any = list[str] if get_origin(field.annotation) is tuple else field.annotation
    kind = Path if name == "data_dir" else kind
    default = (
        "" if field.default in (None, "", ()) or field.default_factory else f"default: {field.default}; "
    )
    option = typer.Option(
        flag(name) if kind is not bool else f"{flag(name)}/--no-{flag(name)[2:]}",
        metavar="<str>" if kind == list[str] else None,
        help=f"{field.description} [{default}{ENV_PREFIX}{name.upper()}]",
        show_default=False,
    )
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind | None, option]
    )


@cli.command(context_settings=PASS_ON, options_metavar="[MODEL] [OPTIONS] [VLLM FLAGS]")
@_with_settings(Settings.model_fields.keys())
def serve(
    context: typer.Context,
    *,
    env_file: EnvFile = None,
    help_engine: Annotated[
        bool, typer.Option("--help-engine", help="List vLLM's own flags, and exit.")
    ] = False,
    **flags: Any,
) -> None:
    """Open the chat window, and load a model into this process, or offer those of servers.

    Every flag that is not listed here is vLLM's own and goes to vLLM, so that the lines written for
    "vllm serve MODEL …" work here too. --help-engine lists them.
    """
    from backend.inprocess import leave_a_load_behind
    from backend.store_disk import emptied, sole_use

    settings = _settings(flags, env_file)
    if help_engine:
        from backend.vllm_entry import engine_help

        _prepare_vllm(settings, local_model=True)
        typer.echo(engine_help())
        return
    plan = _plan(context, settings, flags["model"], context.args)
    if plan.engine is not None:
        for notice in plan.engine.notices:
            console.info(notice)
        _prepare_vllm(settings, local_model=plan.engine.is_local)
    os.environ["GRADIO_TEMP_DIR"] = str(settings.chats_dir / "uploads")
    with sole_use(settings.data_dir), emptied(settings.temporary_dir):
        from ui import server  # after the environment, which Gradio reads when it is imported

        server.serve(settings, plan)
    leave_a_load_behind()


@cli.command(context_settings=PASS_ON, options_metavar="PROMPT [PICTURE …] [OPTIONS] [VLLM FLAGS]")
@_with_settings(ASK_SETTINGS)
def ask(
    context: typer.Context,
    *,
    env_file: EnvFile = None,
    messages: Annotated[
        Path | None, typer.Option(help="JSON file of a whole chat in OpenAI's form, in the place of PROMPT.")
    ] = None,
    temperature: Annotated[
        float | None, typer.Option(min=0, max=2, help="0 takes the likeliest word each time.")
    ] = None,
    top_p: Annotated[
        float | None, typer.Option(min=0.01, max=1, help="Share of the likely words to choose from.")
    ] = None,
    max_tokens: Annotated[int | None, typer.Option(min=1, help="The longest answer.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="The same seed gives the same answer.")] = None,
    detail: Annotated[Detail, typer.Option(help="Size of the pictures that the model gets.")] = Detail.AUTO,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object, with the figures, at the end.")
    ] = False,
    format: Annotated[
        Literal["mistral", "hf"] | None, typer.Option(help="Form of the model's files, for vLLM.")
    ] = None,
    disable_mm_processor_cache: Annotated[
        bool, typer.Option("--disable-mm-processor-cache", help="Prepare each picture anew, in vLLM.")
    ] = False,
    **flags: Any,
) -> None:
    """Ask one question, about pictures too (files or web addresses), and print the answer as it comes.

    PROMPT may be "-", for what is piped in. The model is loaded into this process: the demo model, or the
    one that --model names. With --base-url or OPENAI_BASE_URL it is the server's first, or the one of its
    models that --model names. Flags that are not listed here go to vLLM.

    \b
      sightline ask "Describe this image in one sentence." cherry.jpg
      sightline ask --messages chat.json --temperature 0.7 --json
    """
    from backend import asking
    from backend.types import Sampling

    for stream in (sys.stdout, sys.stderr):  # whatever the model writes, the terminal's encoding may lack it
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    settings = _settings(flags, env_file)
    words, vllm_flags = asking.split_words(context.args)
    if bool(words) == bool(messages):
        raise ConfigError(
            "There is one question to ask, as PROMPT or with --messages.",
            'Write it first: sightline ask "What is this?" picture.jpg',
        )
    if words:
        words = (asking.read_prompt(words[0], sys.stdin), *words[1:])

    plan = _plan(context, settings, flags["model"], vllm_flags, one_only=True)
    more = asking.engine_flags(plan, format, disable_mm_processor_cache)
    plan = _plan(context, settings, flags["model"], (*vllm_flags, *more), one_only=True)
    if plan.engine is not None:
        _prepare_vllm(settings, local_model=plan.engine.is_local)
    question = asking.Question(words, messages, Sampling(temperature, top_p, max_tokens, seed), detail)
    printer = asking.Printer(sys.stdout, sys.stderr, as_json=as_json)
    try:
        asyncio.run(asking.run(settings, plan, question, printer))
    except KeyboardInterrupt:
        os._exit(INTERRUPTED)  # at once: the thread in which a model loads may still run


@cli.command(context_settings=PASS_ON, options_metavar="FOLDER [OPTIONS] [VLLM FLAGS]")
@_with_settings(ASK_SETTINGS)
def caption(
    context: typer.Context,
    *,
    env_file: EnvFile = None,
    preset: Annotated[
        str | None,
        typer.Option(help="sentence (the default), detailed, alt, tags, ocr, training, product or fields."),
    ] = None,
    prompt: Annotated[
        str | None, typer.Option(help="Your own words; {filename} and {existing} stand for the picture's.")
    ] = None,
    schema: Annotated[
        Path | None,
        typer.Option(help='JSON file of fields to fill in: {"colour": "text"}, or a JSON schema.'),
    ] = None,
    trigger: Annotated[str, typer.Option(help="The word that training captions begin with.")] = "",
    language: Annotated[str, typer.Option(help="The captions' language. [default: the model's]")] = "",
    out: Annotated[
        Path | None, typer.Option(help="Folder for what comes out. [default: beside the pictures]")
    ] = None,
    format: Annotated[
        str, typer.Option(help="Of txt, caption and json (beside each picture), csv, jsonl, imagefolder.")
    ] = "txt,csv",
    existing: Annotated[
        Literal["skip", "overwrite", "append", "both"],
        typer.Option(help="Of captions that lie there; both: they stay, and the new ones are in the tables."),
    ] = "skip",
    column: Annotated[str, typer.Option(help="Column of a CSV that names the pictures.")] = "",
    temperature: Annotated[float | None, typer.Option(min=0, max=2, help="[default: 0.2]")] = None,
    top_p: Annotated[float | None, typer.Option(min=0.01, max=1)] = None,
    max_tokens: Annotated[
        int | None, typer.Option(min=1, help="The longest answer. [default: by preset]")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0)] = None,
    detail: Annotated[Detail, typer.Option(help="Size of the pictures that the model gets.")] = Detail.AUTO,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with what an earlier run left.")] = False,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Try again what failed in an earlier run.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Count pictures, estimate tokens and time, keep nothing.")
    ] = False,
    **flags: Any,
) -> None:
    """Caption all pictures of a folder, with a file beside each and a table of all.

    FOLDER may also be a picture, a ZIP, a CSV with a column of addresses or paths, a .txt of addresses, or a
    web address. The model is loaded into this process: the demo model, or the one that --model names; with
    --base-url or OPENAI_BASE_URL it is a server's. What was done is kept, whatever happens: --resume goes on.
    The status is 0 when all is done, 3 when some pictures failed, 130 after Ctrl-C.

    \b
      sightline caption photos --preset alt --format txt,csv
      sightline caption photos --resume
      sightline caption album.zip --prompt "Who is in {filename}?" --base-url http://localhost:8000/v1
    """
    from backend import asking, caption_command
    from backend.captioning.values import Existing
    from backend.types import Sampling

    settings = _settings(flags, env_file)
    words, vllm_flags = asking.split_words(context.args)
    if len(words) != 1:
        raise ConfigError("There is one folder to caption.", "Write it first: sightline caption FOLDER")
    order = caption_command.Order(
        words[0],
        preset,
        prompt,
        schema,
        trigger,
        language,
        out,
        format,
        Existing(existing),
        column,
        Sampling(temperature, top_p, max_tokens, seed),
        detail,
        resume,
        retry_failed,
        dry_run,
    )
    plan = _plan(context, settings, flags["model"], vllm_flags, one_only=True)
    if plan.engine is not None:
        _prepare_vllm(settings, local_model=plan.engine.is_local)
    printer = asking.Printer(sys.stdout, sys.stderr, as_json=False)
    try:
        status = asyncio.run(caption_command.run(settings, plan, order, printer))
    except KeyboardInterrupt:
        os._exit(INTERRUPTED)  # as above
    raise typer.Exit(status)


@cli.command(options_metavar="[show MODEL] [OPTIONS]")
def models(
    words: Annotated[list[str] | None, typer.Argument(metavar="[show MODEL]")] = None,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print the table for programs.")] = False,
    max_model_len: Annotated[
        int | None, typer.Option(min=1, help="Context for which memory is reckoned. [default: 32768]")
    ] = None,
) -> None:
    """List the models whose flags are known here, and which of them fit this machine.

    \b
      sightline models
      sightline models show Qwen/Qwen3-VL-8B-Instruct
      sightline serve --model auto          # the best of them that fits
    """
    from backend.catalogue import table
    from backend.catalogue.machine import read_gpus

    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    gpus = read_gpus(os.environ)
    typer.echo(table.answer(words or [], gpus, max_model_len, is_json=as_json, width=width))


def _flags(context: typer.Context) -> list[str]:
    """How the flags of a command are spelt."""
    return [spelt for parameter in context.command.params for spelt in parameter.opts]


def _plan(
    context: typer.Context,
    settings: Settings,
    model: str | None,
    vllm_flags: Sequence[str],
    *,
    one_only: bool = False,
) -> "StartPlan":
    from backend.start import plan_start

    return plan_start(
        settings,
        model,
        vllm_flags,
        os.environ,
        has_vllm=_has_vllm(),
        one_only=one_only,
        own_flags=_flags(context),
    )


def _settings(flags: dict[str, Any], env_file: Path | None) -> Settings:
    return load_settings({name: value for name, value in flags.items() if value is not None}, env_file)


def _prepare_vllm(settings: Settings, *, local_model: bool) -> None:
    """Before anything imports vLLM, in this process or in a child."""
    from backend import plugin_path
    from backend.inprocess import prepare_environment

    prepare_environment(os.environ, local_model=local_model)
    plugin_path.register(settings.data_dir / "plugins", os.environ)


def _has_vllm() -> bool:
    return importlib.util.find_spec("vllm") is not None


def with_command(arguments: Sequence[str]) -> list[str]:
    """What was typed, with ``serve`` before it where no command stands first.

    Raises:
        ConfigError: what stands first looks like a misspelt command, or a question, and is no model's folder.
    """
    first = next(iter(arguments), "")
    if first in (*COMMANDS, "--help", "--version"):
        return list(arguments)
    if not first.startswith("-") and not os.path.exists(first):
        if near := difflib.get_close_matches(first, (*COMMANDS, "help", "version"), n=1):
            meant = near[0] if near[0] in COMMANDS else f"--{near[0]}"
            raise ConfigError(
                f"There is no command “{first}”.",
                f"Did you mean “sightline {meant}”? A model of this name is given with --model.",
            )
        if len(first.split()) > 1:
            raise ConfigError(
                "A question wants the command “ask” before it.",
                'Write: sightline ask "What is this?" picture.jpg',
            )
    return ["serve", *arguments]


def main() -> None:
    """``sightline``, ``python app.py``: without a command it is ``serve``."""
    console.setLevel(logging.INFO)
    console.propagate = False
    console.addHandler(logging.StreamHandler(sys.stdout))
    try:
        cli(with_command(sys.argv[1:]))
    except EngineError as error:  # of a question: all was well with the command
        sys.stderr.write(f"sightline: {error}\n")
        raise SystemExit(1) from None
    except SightlineError as error:
        sys.stderr.write(f"sightline: {error}\n")
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
