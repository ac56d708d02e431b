"""The command line: what its flags say and do, before anything heavy is imported."""

import logging
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import pytest

import app
from backend.config import ENV_PREFIX, Settings, flag
from backend.vllm_args import EnginePlan

APP = Path(app.__file__)
HEAVY = {"gradio", "vllm", "torch", "transformers", "openai", "PIL", "numpy", "sqlalchemy"}

Run = Callable[..., tuple[int, str, str]]


class Served:
    """What ``ui.server.serve`` was called with."""

    settings: Settings
    plan: EnginePlan
    log: Path


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Served:
    """In the place of the server, and of all that it imports."""
    served = Served()

    def serve(settings: Settings, plan: EnginePlan, log: Path) -> None:
        served.settings, served.plan, served.log = settings, plan, log

    fake = SimpleNamespace(serve=serve)
    monkeypatch.setitem(sys.modules, "ui.server", fake)
    import ui

    monkeypatch.setattr(ui, "server", fake, raising=False)
    return served


@pytest.fixture
def run(environment: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Run]:
    """Run the command in this process: its status, what it printed, and what it complained of."""
    environment.setenv("XDG_DATA_HOME", str(tmp_path))
    console = logging.getLogger("sightline")
    before = (list(console.handlers), console.level, console.propagate)

    def run(*arguments: str) -> tuple[int, str, str]:
        environment.setattr(sys, "argv", ["sightline", *arguments])
        try:
            app.main()
            status = 0
        except SystemExit as done:
            status = int(done.code or 0)
        finally:
            console.handlers[:] = before[0]
        return status, *capsys.readouterr()

    yield run
    console.setLevel(before[1])
    console.propagate = before[2]


def words(text: str) -> str:
    """Without the boxes and line breaks of a terminal."""
    return " ".join(re.sub(r"[│╭╮╰╯─]|\x1b\[[0-9;]*m", " ", text).split())


def test_help_is_quick_because_it_imports_nothing_heavy() -> None:
    script = (
        "import sys, runpy; sys.argv = ['app.py', 'serve', '--help']\n"
        "try: runpy.run_path(sys.path.pop(), run_name='__main__')\n"
        "except SystemExit as done: assert not done.code, done.code\n"
        f"print('imported', sorted({HEAVY!r} & set(sys.modules)))"
    )
    bootstrap = f"import sys; sys.path.append({str(APP)!r})\n{script}"

    result = subprocess.run(
        [sys.executable, "-c", bootstrap], capture_output=True, text=True, timeout=60, check=False
    )

    assert result.returncode == 0, result.stderr
    assert "--max-images-per-message" in result.stdout
    assert result.stdout.splitlines()[-1] == "imported []"


def test_a_child_that_imports_the_app_again_pays_little() -> None:
    script = f"import sys; import app; print(sorted({HEAVY!r} & set(sys.modules)))"

    result = subprocess.run(
        [sys.executable, "-c", script], cwd=APP.parent, capture_output=True, text=True, timeout=60, check=True
    )

    assert result.stdout == "[]\n"


def test_help_lists_every_setting_with_its_variable(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "400")

    status, out, err = run("serve", "--help")

    assert (status, err) == (0, "")
    for name in Settings.model_fields:
        assert flag(name) in out, name
        assert f"{ENV_PREFIX}{name.upper()}" in out, name
    assert "default: 7860" in out
    assert "--help-engine" in out


def test_without_a_command_it_serves_the_demo(run: Run, served: Served, tmp_path: Path) -> None:
    status, _, err = run()

    assert (status, err) == (0, "")
    assert served.plan.is_demo
    assert served.settings.data_dir == tmp_path / "sightline"
    assert served.log == tmp_path / "sightline" / "logs" / "engine.log"


@pytest.mark.parametrize("command", [[], ["serve"]])
def test_settings_are_read_and_all_other_flags_are_vllms(
    run: Run, served: Served, command: list[str]
) -> None:
    status, _, err = run(
        *command,
        *("owner/model", "--tokenizer_mode", "mistral", "--port", "8123", "--max-model-len=16384"),
        *("-tp", "2", "--allow-private-addresses", "--allowed-hosts", "a.example,b.example", "-O3"),
        *("--limit-mm-per-prompt", '{"image": 10}', "--max-file-mb=7", "--enable-prefix-caching"),
    )

    assert (status, err) == (0, "")
    assert (served.settings.port, served.settings.max_file_mb) == (8123, 7)
    assert served.settings.allow_private_addresses is True
    assert served.settings.allowed_hosts == ("a.example", "b.example")
    assert served.plan.argv == (
        *("--model", "owner/model", "--tokenizer_mode", "mistral", "--max-model-len=16384", "-tp", "2"),
        *("-O3", "--limit-mm-per-prompt", '{"image": 10}', "--enable-prefix-caching"),
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ["--model", "owner/model"],
        ["--model=owner/model"],
        ["owner/model"],
        ["--seed", "1", "--model", "owner/model"],
    ],
)
def test_a_model_is_named_first_or_by_flag(run: Run, served: Served, arguments: list[str]) -> None:
    run(*arguments)

    assert served.plan.model == "owner/model"


def test_what_is_not_given_by_flag_comes_from_the_environment_and_the_env_file(
    run: Run, served: Served, environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    environment.setenv("SIGHTLINE_PORT", "8001")
    (tmp_path / "my.env").write_text("SIGHTLINE_PORT=8002\nSIGHTLINE_MAX_FILE_MB=3\n")

    run("--env-file", str(tmp_path / "my.env"))

    assert (served.settings.port, served.settings.max_file_mb) == (8001, 3)


def test_an_old_spelling_is_translated_aloud(run: Run, served: Served) -> None:
    _, out, _ = run("owner/model", "--limit-mm-per-prompt", "image=4")

    assert "old spelling" in out
    assert served.plan.argv[-1] == '{"image": 4}'


def test_gradio_keeps_uploads_in_the_data_folder(run: Run, served: Served, tmp_path: Path) -> None:
    import os

    run("--data-dir", str(tmp_path / "elsewhere"))

    assert os.environ["GRADIO_TEMP_DIR"] == str(tmp_path / "elsewhere" / "uploads")
    assert served.settings.data_dir == tmp_path / "elsewhere"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--port", "0"], "--port"),
        (["--max-file-mb=0"], "--max-file-mb"),
        (["owner/model", "--api-key", "sk-hidden"], "VLLM_API_KEY"),
        (["--hf_token=sk-hidden"], "HF_TOKEN"),
        (["owner/one", "--model", "owner/two"], "Two models"),
        (["./absent"], "There is no model folder"),
        (["--env-file", "/absent.env"], "There is no env file"),
    ],
)
def test_what_cannot_be_used_is_one_line_and_status_2(
    run: Run, served: Served, arguments: list[str], complaint: str
) -> None:
    status, out, err = run(*arguments)

    assert status == 2
    assert err.startswith("sightline: ")
    assert err.count("\n") == 1
    assert complaint in err
    assert "sk-hidden" not in out + err
    assert not hasattr(served, "plan")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--port", "http"], "--port"),
        (["--data-dir"], "--data-dir"),
        (["--idle-timeout-s", "long"], "--idle-timeout-s"),
        (["--allow-private-addresses=perhaps"], "--allow-private-addresses"),
    ],
)
def test_a_flag_that_is_written_wrong_is_named_without_a_traceback(
    run: Run, served: Served, arguments: list[str], complaint: str
) -> None:
    status, _, err = run(*arguments)

    assert status == 2
    assert complaint in words(err)
    assert "Traceback" not in err
    assert not hasattr(served, "plan")


def test_it_tells_its_version() -> None:
    answer = subprocess.run(
        [sys.executable, str(APP), "--version"], capture_output=True, text=True, check=True
    )

    assert answer.stdout.strip() == f"sightline {version('sightline')}"
