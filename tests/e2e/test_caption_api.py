"""One picture over HTTP: Gradio's own client against the real app. A server answers, no model is loaded."""

import base64
import json
import secrets
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from fault_server import Call, FaultServer, serve
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError

from .app_process import App, started
from .drawings import BLUE_SQUARE, RED_CIRCLE
from .gradio_client import GradioClient

FIELDS = '{"colour": "red|blue", "count": "whole number"}'


async def captions(call: Call) -> None:
    """Says what it was asked, and of a schema what fits it."""
    content = call.body["messages"][-1]["content"]
    asked = next(part["text"] for part in content if part["type"] == "text")
    said = '{"colour": "red", "count": 1}' if "response_format" in call.body else f"Asked: {asked}"
    choice = {"index": 0, "message": {"role": "assistant", "content": said}, "finish_reason": "stop"}
    await call.json(200, {"choices": [choice], "usage": {"prompt_tokens": 40, "completion_tokens": 9}})


@pytest.fixture(scope="module")
def server() -> Iterator[FaultServer]:
    with serve({"captioner": captions}) as server:
        yield server


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory, server: FaultServer) -> Iterator[App]:
    limits = ("--messages-per-minute", "6", "--max-file-mb", "1")
    flags = ("--base-url", f"lab={server.url}", *limits)
    with started(tmp_path_factory.mktemp("one"), *flags, offers="captioner @ lab") as app:
        yield app


@pytest.fixture
def client(app: App) -> Iterator[Client]:
    """Somebody new, as docs/captioning.md says it."""
    cookie = f"sightline_visitor={secrets.token_urlsafe(32)}"
    client = Client(app.url, headers={"Cookie": cookie}, verbose=False, analytics_enabled=False)
    yield client
    client.close()


@pytest.fixture
def red(tmp_path: Path) -> Path:
    path = tmp_path / "red.png"
    path.write_bytes(RED_CIRCLE)
    return path


def test_a_picture_gets_its_caption(app: App, client: Client, server: FaultServer, red: Path) -> None:
    assert client.predict(handle_file(red), api_name="/caption") == (
        "Asked: Describe this image in one sentence."
    )
    image = server.chats()[-1].body["messages"][-1]["content"][0]["image_url"]["url"]
    assert base64.b64decode(image.partition(",")[2]).startswith(b"\x89PNG")
    own = client.predict(handle_file(red), prompt="Which {filename}?", model="captioner", api_name="/caption")
    assert own == "Asked: Which red.png?"
    alt = client.predict(handle_file(red), preset="alt", api_name="/caption")
    assert alt.startswith("Asked: Write an alt text")
    assert len(alt) <= 125
    fields = client.predict(handle_file(red), schema=FIELDS, api_name="/caption")
    assert json.loads(fields) == {"colour": "red", "count": 1}
    assert not list((app.data_dir / "uploads").glob("*/*/*"))  # nothing of it is kept


def test_what_cannot_be_is_said(client: Client, red: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"\xff\xd8\xff no picture")
    for picture, more, sentence in (
        (broken, {}, "“broken.jpg” is damaged"),
        (red, {"preset": "poem"}, "There is no preset “poem”. There are: sentence"),
        (red, {"model": "another"}, "not offered here"),
        (red, {"schema": "[]"}, "no JSON schema"),
    ):
        with pytest.raises(AppError, match=sentence):
            client.predict(handle_file(picture), **more, api_name="/caption")


def test_its_limits_are_those_of_the_page(client: Client, red: Path) -> None:
    for _ in range(6):
        client.predict(handle_file(red), api_name="/caption")
    with pytest.raises(AppError, match="You have sent as many messages as one visitor may send in a minute"):
        client.predict(handle_file(red), api_name="/caption")


def test_a_file_that_is_too_large_is_refused(client: Client, tmp_path: Path) -> None:
    large = tmp_path / "large.png"
    large.write_bytes(bytes(1_000_001))
    with pytest.raises(ValueError, match="exceeds the maximum file size"):  # the client's own look
        client.predict(handle_file(large), api_name="/caption")


def test_somebody_elses_upload_is_no_picture(app: App) -> None:
    with GradioClient(app.url) as visitor, GradioClient(app.url) as other:
        theirs = visitor.upload("blue.png", BLUE_SQUARE)
        assert "There is no picture" in other.call("caption", [theirs])
        assert "There is no picture" in other.call("caption", [None])
        assert "not named" in other.call("caption", [{"path": "/etc/passwd"}])
        assert "Asked:" in visitor.call("caption", [theirs])


def test_nothing_else_is_offered(app: App) -> None:
    told = httpx2.get(f"{app.url}/gradio_api/info?all_endpoints=True", trust_env=False).json()
    assert set(told["named_endpoints"]) == {"/caption"}
    assert not told["unnamed_endpoints"]
    parameters = told["named_endpoints"]["/caption"]["parameters"]
    assert [one["parameter_name"] for one in parameters] == ["picture", "preset", "prompt", "model", "schema"]
    for route in ("call/caption", "api/caption", "run/caption", "api/predict"):
        answer = httpx2.post(f"{app.url}/gradio_api/{route}", json={"data": []}, trust_env=False)
        assert answer.status_code == 404, route


def test_nobody_says_for_others_where_to_call(app: App) -> None:
    evil = {"X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "http"}
    for headers in (evil, {}):
        told = httpx2.get(f"{app.url}/gradio_api/info", headers=headers, trust_env=False)
        assert told.status_code == 200
        assert "evil.example" not in told.text
