"""The command line: what its flags say and do, before anything heavy is imported."""

import json
import logging
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import pytest

import app
from backend.config import ENV_PREFIX, Settings, flag
from backend.errors import ConfigError
from backend.start import StartPlan
from backend.store_disk import sole_use
from backend.vllm_args import EnginePlan, plan_engine

APP = Path(app.__file__)
HEAVY = {"gradio", "vllm", "torch", "transformers", "openai", "PIL", "numpy", "sqlalchemy"}

Run = Callable[..., tuple[int, str, str]]


class Served:
    """What ``ui.server.serve`` was called with."""

    settings: Settings
    start: StartPlan

    @property
    def plan(self) -> EnginePlan:
        """The engine that is to be loaded."""
        assert self.start.engine is not None
        return self.start.engine


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Served:
    """In the place of the server, and of all that it imports."""
    served = Served()

    def serve(settings: Settings, plan: StartPlan) -> None:
        served.settings, served.start = settings, plan

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


def test_models_are_listed_and_shown(run: Run) -> None:
    status, out, err = run("models")
    assert (status, err) == (0, "")
    assert "Qwen/Qwen3-VL-8B-Instruct" in out

    status, out, err = run("models", "--json")
    assert (status, err) == (0, "")
    assert {"id", "bytes", "here"} <= set(json.loads(out)[0])

    status, out, err = run("models", "show", "qwen/qwen3-vl-8b-instruct", "--max-model-len", "1024")
    assert (status, err) == (0, "")
    assert "vllm serve Qwen/Qwen3-VL-8B-Instruct" in out


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("show", "pixtral-12b"), "no model “pixtral-12b”. Did you mean mistralai/Pixtral-12B-2409?"),
        (("show",), "“sightline models show MODEL” one model. Name one model, with its owner"),
        (("pixtral",), "“sightline models” prints a table"),
    ],
)
def test_a_model_that_the_catalogue_lacks_is_told(
    run: Run, arguments: tuple[str, ...], complaint: str
) -> None:
    status, out, err = run("models", *arguments)
    assert (status, out) == (2, "")
    assert complaint in err


def test_auto_is_the_demo_where_there_is_no_gpu(run: Run, served: Served, tmp_path: Path) -> None:
    served_path = str(tmp_path)  # without a driver
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", served_path)
        status, _, err = run("--model", "auto")

    assert (status, err) == (0, "")
    assert served.plan.is_demo
    assert served.plan.reason.startswith("auto: the small demo model, since no NVIDIA GPU was found")


def test_without_a_command_it_serves_the_demo(run: Run, served: Served, tmp_path: Path) -> None:
    status, _, err = run()

    assert (status, err) == (0, "")
    assert served.plan.is_demo
    assert served.settings.data_dir == tmp_path / "sightline"


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
        ["--model", "owner/model", "--served-model-name", "serv"],
    ],
)
def test_a_model_is_named_first_or_by_flag(run: Run, served: Served, arguments: list[str]) -> None:
    run(*arguments)

    assert served.plan.model == "owner/model"


def test_a_folder_with_a_commands_name_is_a_model(
    run: Run, served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "server").mkdir()
    monkeypatch.chdir(tmp_path)
    run("server")

    assert served.plan.model == "server"
    run("--model", "serv")
    assert served.plan.model == "serv"


def test_a_model_of_the_environment_gives_way_to_one_on_the_command_line(
    run: Run, served: Served, environment: pytest.MonkeyPatch
) -> None:
    environment.setenv("SIGHTLINE_MODEL", "owner/usual")

    for arguments, model in (
        ([], "usual"),
        (["owner/other"], "other"),
        (["--model", "owner/third"], "third"),
    ):
        assert run(*arguments)[0] == 0
        assert served.plan.model == f"owner/{model}"


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
        (["serv"], "Did you mean “sightline serve”?"),
        (["sevre", "--port", "8000"], "Did you mean “sightline serve”?"),
        (["aks", "What is this?"], "Did you mean “sightline ask”?"),
        (["help"], "Did you mean “sightline --help”?"),
        (["What is this?", "picture.png"], "sightline ask"),
        (["--base-url", "lab=http://127.0.0.1:9/v1", "--prot", "8000"], "Did you mean --port?"),
        (["ask", "Hi", "--base-url", "http://127.0.0.1:9/v1", "--temprature=1"], "mean --temperature?"),
        (["--base-url", "localhost:8000"], "does not begin with http"),
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
    assert not hasattr(served, "start")


def test_a_data_folder_serves_one_app_at_a_time(run: Run, served: Served, tmp_path: Path) -> None:
    with sole_use(tmp_path / "shared"):
        status, _, err = run("--data-dir", str(tmp_path / "shared"))

        assert status == 2
        assert err.startswith("sightline: Another Sightline is using this data folder.")
        assert not hasattr(served, "start")

    assert run("--data-dir", str(tmp_path / "shared"))[0] == 0


def test_a_data_folder_is_free_again_when_its_app_is_killed(run: Run, served: Served, tmp_path: Path) -> None:
    script = (
        "import sys, pathlib; from backend.store_disk import sole_use\n"
        "with sole_use(pathlib.Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    with subprocess.Popen(command, cwd=APP.parent, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == b"held\n"
        assert run("--data-dir", str(tmp_path))[0] == 2
        holder.kill()
        holder.wait()

        assert run("--data-dir", str(tmp_path))[0] == 0


def test_a_data_folder_that_cannot_be_made_is_one_line(run: Run, served: Served, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    status, _, err = run("--data-dir", str(tmp_path / "file" / "data"))

    assert (status, err.count("\n")) == (2, 1)
    assert "--data-dir" in err


def test_a_port_that_is_taken_leaves_the_engines_log_where_it_is(settings: Settings) -> None:
    from ui import server

    log = settings.data_dir / "logs" / "engine.log"
    log.parent.mkdir(parents=True)
    log.write_text("of the one that runs")
    before = [(number, signal.getsignal(number)) for number in (signal.SIGINT, signal.SIGTERM)]
    try:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            busy = settings.model_copy(update={"port": taken.getsockname()[1]})
            with pytest.raises(ConfigError, match="Port"):
                server.serve(busy, StartPlan(plan_engine(None, []), ()))
    finally:
        for number, handler in before:
            signal.signal(number, handler)

    assert log.read_text() == "of the one that runs"


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
    assert not hasattr(served, "start")


def test_it_tells_its_version() -> None:
    answer = subprocess.run(
        [sys.executable, str(APP), "--version"], capture_output=True, text=True, check=True
    )

    assert answer.stdout.strip() == f"sightline {version('sightline')}"


def test_captioning_wants_one_folder_and_takes_no_flag_of_another_engine(run: Run, tmp_path: Path) -> None:
    for words in ((), ("a", "b")):
        status, _, complaint = run("caption", *words)
        assert status == 2
        assert "one folder" in complaint
    status, _, complaint = run(
        "caption", str(tmp_path), "--base-url", "http://127.0.0.1:9/v1", "--presett", "alt"
    )
    assert (status, "--preset" in complaint) == (2, True)
    status, shown, _ = run("caption", "--help")
    assert status == 0
    assert {"--preset", "--schema", "--resume", "--retry-failed", "--dry-run", "--existing"} <= set(
        re.findall(r"--[a-z-]+", shown)
    )
