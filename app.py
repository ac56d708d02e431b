"""The command line: one thin command each."""

import importlib.metadata
import inspect
import logging
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from backend.config import ENV_PREFIX, Settings, flag, load_settings
from backend.errors import SightlineError

COMMANDS = ("serve",)

console = logging.getLogger("sightline")
cli = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"sightline {importlib.metadata.version('sightline')}")
        raise typer.Exit


@cli.callback()
def sightline(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version.")
    ] = False,
) -> None:
    """Chat about pictures in the browser, with vLLM running in the same process."""


def serve(context: typer.Context, env_file: Path | None, help_engine: bool, **flags: Any) -> None:
    """Open the chat window, and load a model into this process.

    Every flag that is not listed here is vLLM's own and goes to vLLM, so that the lines written for
    "vllm serve MODEL …" work here too. --help-engine lists them.
    """
    from backend.inprocess import engine_help, prepare_environment
    from backend.store_disk import sole_use
    from backend.vllm_args import plan_engine

    if help_engine:
        prepare_environment(os.environ, local_model=True)
        typer.echo(engine_help())
        return
    settings = load_settings({name: value for name, value in flags.items() if value is not None}, env_file)
    plan = plan_engine(flags["model"], context.args, default=settings.model)
    for notice in plan.notices:
        console.info(notice)
    prepare_environment(os.environ, local_model=plan.is_local)
    os.environ["GRADIO_TEMP_DIR"] = str(settings.data_dir / "uploads")
    with sole_use(settings.data_dir):
        from ui import server  # after the environment, which Gradio reads when it is imported

        server.serve(settings, plan)


def _with_settings_as_flags(function: Any) -> Any:
    """Give a command one flag for each field of the settings, which are declared in one place only."""
    flags = []
    for name, field in Settings.model_fields.items():
        kind: Any = str if name == "allowed_hosts" else Path if name == "data_dir" else field.annotation
        default = (
            "" if field.default in (None, "", ()) or field.default_factory else f"default: {field.default}; "
        )
        option = typer.Option(
            flag(name) if kind is not bool else f"{flag(name)}/--no-{flag(name)[2:]}",
            help=f"{field.description} [{default}{ENV_PREFIX}{name.upper()}]",
            show_default=False,
        )
        flags.append(_parameter(name, Annotated[kind | None, option], None))
    context, *_ = inspect.signature(function).parameters.values()
    env_file = Annotated[Path | None, typer.Option(help="File of VARIABLE=value lines to read first.")]
    help_engine = Annotated[bool, typer.Option("--help-engine", help="List vLLM's own flags, and exit.")]
    function.__signature__ = inspect.Signature(
        [
            context.replace(kind=inspect.Parameter.KEYWORD_ONLY),
            _parameter("env_file", env_file, None),
            _parameter("help_engine", help_engine, False),
            *flags,
        ]
    )
    function.__annotations__ = {p.name: p.annotation for p in function.__signature__.parameters.values()}
    return function


def _parameter(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


cli.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    options_metavar="[MODEL] [OPTIONS] [VLLM FLAGS]",
)(_with_settings_as_flags(serve))


def main() -> None:
    """``sightline``, ``python app.py``: without a command it is ``serve``."""
    console.setLevel(logging.INFO)
    console.propagate = False
    console.addHandler(logging.StreamHandler(sys.stdout))
    arguments = sys.argv[1:]
    if arguments[:1] not in ([command] for command in (*COMMANDS, "--help", "--version")):
        arguments = ["serve", *arguments]
    try:
        cli(arguments)
    except SightlineError as error:
        sys.stderr.write(f"sightline: {error}\n")
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
