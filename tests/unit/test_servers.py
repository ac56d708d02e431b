"""Which servers are asked, by what names, and which key goes where."""

from pathlib import Path

import pytest

from backend.errors import ConfigError
from backend.servers import Server, read_servers

OPENAI = "https://api.openai.com/v1"
LAB = "https://lab.example/v1"
OTHER = "http://127.0.0.1:8000/v1"


def named(*base_urls: str, **environment: str) -> list[tuple[str, str]]:
    return [(server.name, server.base_url) for server in read_servers(base_urls, (), environment)]


def keys(*base_urls: str, files: tuple[str, ...] = (), **environment: str) -> dict[str, str]:
    return {server.base_url: server.api_key for server in read_servers(base_urls, files, environment)}


def test_without_addresses_there_are_no_servers() -> None:
    assert named(OPENAI_API_KEY="sk-1") == []


def test_servers_come_from_flags_then_from_the_environment() -> None:
    assert named(f"lab={LAB}/", OTHER, OPENAI_BASE_URL=f" {OPENAI}/ ") == [
        ("lab", LAB),
        ("127.0.0.1:8000", OTHER),
        ("api.openai.com", OPENAI),
    ]


def test_a_server_that_is_named_twice_over_is_one() -> None:
    assert named(f"lab={LAB}", OPENAI_BASE_URL=f"{LAB}/") == [("lab", LAB)]


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://openrouter.ai/api/v1", "openrouter.ai"),
        ("http://10.1.2.3/v1", "server"),
        ("http://[fd00::1]:8000/v1", "server"),
        ("http://gpu7.internal/v1", "server"),
        ("http://nas.local/v1", "server"),
    ],
)
def test_the_page_does_not_tell_the_names_of_a_private_network(url: str, name: str) -> None:
    assert named(url) == [(name, url)]


@pytest.mark.parametrize("here", ["localhost:11434", "localhost", "127.0.0.1:8000", "[::1]:8000"])
def test_a_server_of_this_machine_is_called_by_its_port(here: str) -> None:
    assert named(f"http://{here}/v1") == [(here, f"http://{here}/v1")]
    assert named(f"http://{here}/v1", f"https://{here}/v1")[1][0] == f"{here} 2"


def test_servers_without_names_are_told_apart() -> None:
    urls = [f"http://10.0.0.{n}/v1" for n in range(3)]

    assert [name for name, _ in named(*urls, "server 2=http://10.0.0.9/v1")] == [
        *("server", "server 3", "server 4", "server 2")
    ]


def test_two_servers_cannot_have_one_name() -> None:
    with pytest.raises(ConfigError, match="Two servers are called “lab”"):
        named(f"lab={LAB}", f"lab={OTHER}")


@pytest.mark.parametrize(
    "url",
    [
        *(
            "localhost:8000",
            "ftp://host/v1",
            "https://",
            "https://user:secret@host/v1",
            "https://host:port/v1",
        ),
        *("https://host/v1?key=secret", "https://host/v1#x", "lab=", "https://[::1/v1", "https://host:0/v1"),
        *("http://999.1.1.1/v1", "http://a..b/v1", "https://ho st/v1", "https://host/v1\0", "https://-/v1"),
        *("a @ b=https://host/v1", f"https://host/{'v' * 3000}"),
    ],
)
def test_what_is_no_address_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        named(url)

    assert "secret" not in str(caught.value)
    assert "https://host/v1" in caught.value.action


@pytest.mark.parametrize("url", ["localhost:8000", "host.example/v1", "lab=10.0.0.1:8000/v1", "secret"])
def test_an_address_without_a_scheme_is_told_what_it_lacks(url: str) -> None:
    with pytest.raises(ConfigError, match="does not begin with http:// or https://") as caught:
        named(url)

    assert "secret" not in str(caught.value)
    assert "http://localhost:8000/v1" in caught.value.action


# Keys


def test_the_key_of_the_environment_is_openais_own_where_no_address_stands_beside_it() -> None:
    assert keys(LAB, OPENAI_API_KEY="sk-1") == {LAB: ""}
    assert keys(LAB, OPENAI, OPENAI_API_KEY="sk-1") == {LAB: "", OPENAI: "sk-1"}
    assert keys("http://api.openai.com/v1", OPENAI_API_KEY="sk-1") == {"http://api.openai.com/v1": ""}


def test_the_key_of_the_environment_goes_with_its_address_and_nowhere_else() -> None:
    assert keys(LAB, OPENAI, OPENAI_BASE_URL=OTHER, OPENAI_API_KEY="sk-1") == {
        LAB: "",
        OPENAI: "",
        OTHER: "sk-1",
    }


def test_the_key_of_the_environment_goes_to_the_same_origin_under_another_path() -> None:
    assert keys(f"{LAB}/other", OPENAI_BASE_URL=LAB, OPENAI_API_KEY="sk-1") == {
        f"{LAB}/other": "sk-1",
        LAB: "sk-1",
    }


@pytest.mark.parametrize(
    "own", ["http://lab.example/v1", "https://lab.example:8443/v1", "https://lab.example.org/v1"]
)
def test_another_scheme_port_or_host_is_another_origin(own: str) -> None:
    assert keys(LAB, OPENAI_BASE_URL=own, OPENAI_API_KEY="sk-1") == {LAB: "", own: "sk-1"}


def test_a_key_file_is_for_one_server(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(" sk-file\n")

    assert keys(f"lab={LAB}", OPENAI, files=(f"lab={file}",), OPENAI_API_KEY="sk-1") == {
        LAB: "sk-file",
        OPENAI: "sk-1",
    }
    assert keys(LAB, files=(str(file),)) == {LAB: "sk-file"}


@pytest.mark.parametrize("files", ["absent={}", "{}", "lab={}/absent", "lab=~nobody-of-this-name/key"])
def test_a_key_file_that_cannot_serve_is_refused(tmp_path: Path, files: str) -> None:
    with pytest.raises(ConfigError) as caught:
        keys(f"lab={LAB}", OPENAI, files=(files.format(tmp_path),))

    assert "--api-key-file" in caught.value.action


@pytest.mark.parametrize("key", ["sk-ü", "sk\nX-Header: 1", "k" * 20_000])
def test_what_no_header_can_carry_is_no_key(tmp_path: Path, key: str) -> None:
    (tmp_path / "key").write_text(key)

    with pytest.raises(ConfigError) as caught:
        keys(LAB, files=(str(tmp_path / "key"),))

    assert key not in str(caught.value)


def test_a_key_does_not_show() -> None:
    assert "sk-1" not in repr(Server("lab", LAB, "sk-1"))
