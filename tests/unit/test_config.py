"""Settings from flags, the environment and an env file."""

import os
from pathlib import Path

import pytest
from pydantic import ValidationError

from backend.config import ENV_PREFIX, Settings, flag, load_settings
from backend.errors import ConfigError
from backend.types import DecoderLimits, FetchLimits, ImageLimits, StreamLimits

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


def test_limits_of_streams_come_from_their_settings() -> None:
    names = ["max_streams", "max_streams_per_visitor", "max_streams_per_address", "queue_length"]
    names += ["messages_per_minute", "messages_per_minute_per_address", "pictures_per_minute_per_address"]

    settings = load_settings({name: number for number, name in enumerate(names, 1)})

    assert settings.stream_limits == StreamLimits(1, 2, 3, 4, 5, 6, 7)
    assert load_settings({}).stream_limits == StreamLimits(64, 4, 16, 256, 30, 120, 300)


def test_by_default_only_proxies_of_this_machine_are_trusted(environment: pytest.MonkeyPatch) -> None:
    environment.delenv("SPACE_ID", raising=False)

    assert load_settings({}).trusted_proxies == ("127.0.0.1", "::1")


def test_in_a_space_proxies_of_private_networks_are_trusted_too(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("SPACE_ID", "owner/sightline")

    assert set(load_settings({}).trusted_proxies) == {
        *("127.0.0.1", "::1"),
        *("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"),
    }
    assert load_settings({"trusted_proxies": "10.1.2.3"}).trusted_proxies == ("10.1.2.3",)


@pytest.mark.parametrize("value", ["*", "proxy.example", "10.0.0.0/99", "10.0.0.1/8", "127.0.0.1;::1"])
def test_a_proxy_is_an_address_or_a_network(value: str) -> None:
    with pytest.raises(ConfigError, match="--trusted-proxies"):
        load_settings({"trusted_proxies": value})


@pytest.mark.parametrize("value", ["0.0.0.0/0", "::/0", "127.0.0.1,0.0.0.0/0", "0.0.0.0/0.0.0.0", "0::0/0"])
def test_not_everybody_is_a_proxy(value: str) -> None:
    with pytest.raises(ConfigError, match=r"--trusted-proxies .*/0\S* is every address"):
        load_settings({"trusted_proxies": value})


def test_settings_cannot_be_changed_and_have_no_unknown_names() -> None:
    settings = load_settings({})

    with pytest.raises(ValidationError):
        settings.port = 1  # type: ignore[misc]
    with pytest.raises(ConfigError, match="--prot"):
        load_settings({"prot": 1})


def test_every_setting_is_described_for_help() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []
    assert flag("max_file_mb") == "--max-file-mb"


def test_limits_of_decoders_come_from_their_settings() -> None:
    names = ("decode_workers", "decode_timeout_s", "decode_memory_mb", "decode_in_flight_mb")

    settings = load_settings(dict(zip(names, (3, 4, 128, 5), strict=True)) | {"max_pdf_pages": 6})

    assert settings.decoder_limits == DecoderLimits(3, 4.0, 128_000_000, 5_000_000)
    assert settings.image_limits.max_pages == 6
    assert 1 <= load_settings({}).decode_workers <= 4
