"""Settings from flags, the environment and an env file."""

import os
from pathlib import Path

import pytest
from pydantic import ValidationError

from backend.config import ENV_PREFIX, Settings, flag, load_settings
from backend.errors import ConfigError
from backend.types import FetchLimits, ImageLimits

pytestmark = pytest.mark.usefixtures("environment")


@pytest.fixture
def env_file(tmp_path: Path) -> Path:
    file = tmp_path / "sightline.env"
    file.write_text("SIGHTLINE_MAX_FILE_MB=3\nSIGHTLINE_PORT=3333\nSIGHTLINE_TEST_TOKEN=from-the-file\n")
    return file


def test_without_anything_the_app_is_open_to_this_machine_only() -> None:
    settings = load_settings({})

    assert (settings.host, settings.port, settings.model) == ("127.0.0.1", 7860, None)
    assert settings.allow_private_addresses is False


def test_flags_win_over_the_environment_and_it_wins_over_the_env_file(
    environment: pytest.MonkeyPatch, env_file: Path
) -> None:
    assert load_settings({}, env_file).max_file_mb == 3

    environment.setenv("SIGHTLINE_MAX_FILE_MB", "2")
    assert load_settings({}, env_file).max_file_mb == 2

    assert load_settings({"max_file_mb": 1}, env_file).max_file_mb == 1


@pytest.mark.parametrize(
    ("variables", "flags", "port"),
    [
        ({"GRADIO_SERVER_PORT": "1111"}, {}, 1111),
        ({"SIGHTLINE_PORT": "2222"}, {}, 2222),
        ({"SIGHTLINE_PORT": "2222", "GRADIO_SERVER_PORT": "1111"}, {}, 2222),
        ({"SIGHTLINE_PORT": "2222", "GRADIO_SERVER_PORT": "1111"}, {"port": 4444}, 4444),
        ({"GRADIO_SERVER_PORT": "1111"}, {"port": 4444}, 4444),
        ({"PORT": "5555"}, {}, 7860),
        ({"PORT": "5555", "SIGHTLINE_PORT": "2222"}, {}, 2222),
    ],
)
def test_where_the_port_comes_from(
    environment: pytest.MonkeyPatch, variables: dict[str, str], flags: dict[str, int], port: int
) -> None:
    for name, value in variables.items():
        environment.setenv(name, value)

    assert load_settings(flags).port == port


def test_what_the_env_file_says_for_others_reaches_the_environment(env_file: Path) -> None:
    load_settings({}, env_file)

    assert os.environ["SIGHTLINE_TEST_TOKEN"] == "from-the-file"


def test_the_env_file_does_not_replace_what_is_set(environment: pytest.MonkeyPatch, env_file: Path) -> None:
    environment.setenv("SIGHTLINE_TEST_TOKEN", "set before")

    load_settings({}, env_file)

    assert os.environ["SIGHTLINE_TEST_TOKEN"] == "set before"


def test_a_missing_env_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"There is no env file “.*/absent\.env”.*--env-file"):
        load_settings({}, tmp_path / "absent.env")


@pytest.mark.parametrize(
    ("variables", "flags", "named"),
    [
        ({}, {"max_file_mb": 0}, "--max-file-mb"),
        ({}, {"port": 70_000}, "--port"),
        ({}, {"idle_timeout_s": 0}, "--idle-timeout-s"),
        ({"SIGHTLINE_MAX_CHAT_MESSAGES": "many"}, {}, "--max-chat-messages"),
        ({"SIGHTLINE_ALLOW_PRIVATE_ADDRESSES": "perhaps"}, {}, "--allow-private-addresses"),
        ({"SIGHTLINE_PORT": "http"}, {}, "--port"),
        ({"GRADIO_SERVER_PORT": "0"}, {}, "--port"),
    ],
)
def test_a_value_that_does_not_fit_names_its_flag_and_variable(
    environment: pytest.MonkeyPatch, variables: dict[str, str], flags: dict[str, float], named: str
) -> None:
    for name, value in variables.items():
        environment.setenv(name, value)

    with pytest.raises(ConfigError) as caught:
        load_settings(flags)

    variable = ENV_PREFIX + named[2:].replace("-", "_").upper()
    assert caught.value.what.startswith(f"The value of {named} does not fit: ")
    assert f"with {named} or {variable};" in caught.value.action
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["SIGHTLINE_MODEL", "SIGHTLINE_PORT", "GRADIO_SERVER_PORT"])
def test_an_empty_variable_counts_as_not_set(environment: pytest.MonkeyPatch, name: str) -> None:
    environment.setenv(name, "")

    settings = load_settings({})

    assert (settings.model, settings.port) == (None, 7860)


def test_the_data_folder_is_where_xdg_says(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    environment.setenv("XDG_DATA_HOME", str(tmp_path / "xdg"))
    assert load_settings({}).data_dir == tmp_path / "xdg" / "sightline"

    environment.delenv("XDG_DATA_HOME")
    environment.setenv("HOME", str(tmp_path / "home"))
    assert load_settings({}).data_dir == tmp_path / "home" / ".local" / "share" / "sightline"


@pytest.mark.parametrize(
    ("posted", "hosts"),
    [
        ("", ()),
        ("a.example", ("a.example",)),
        (" a.example , b.example,", ("a.example", "b.example")),
        (("a.example",), ("a.example",)),
    ],
)
def test_allowed_hosts_are_separated_by_commas(posted: object, hosts: tuple[str, ...]) -> None:
    assert load_settings({"allowed_hosts": posted}).allowed_hosts == hosts


def test_allowed_hosts_come_from_the_environment_too(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("SIGHTLINE_ALLOWED_HOSTS", "a.example,b.example")

    assert load_settings({}).allowed_hosts == ("a.example", "b.example")


def test_limits_are_in_bytes_and_pixels() -> None:
    settings = load_settings(
        {
            "max_file_mb": 2,
            "max_megapixels": 3,
            "image_side": 100,
            "fetch_timeout_s": 4,
            "allow_private_addresses": True,
        }
    )

    assert settings.image_limits == ImageLimits(2_000_000, 3_000_000, 100)
    assert settings.fetch_limits == FetchLimits(2_000_000, 4.0, True)


def test_settings_cannot_be_changed_and_have_no_unknown_names() -> None:
    settings = load_settings({})

    with pytest.raises(ValidationError):
        settings.port = 1  # type: ignore[misc]
    with pytest.raises(ConfigError, match="--prot"):
        load_settings({"prot": 1})


def test_every_setting_is_described_for_help() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []
    assert flag("max_file_mb") == "--max-file-mb"
