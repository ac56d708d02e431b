"""``serve --api`` with the real vLLM: the documents' own requests, but for host, key and model name."""

import importlib.util
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from e2e.website import Website, serve_website

from .app_process import App

KEY = "the-key-of-this-test"
MODEL = "sightline-demo"
PAINTER = "Who is the best French painter? Answer in one short sentence."
# Mistral's documentation, "Self-deployment, vLLM", server mode.
CURL = """curl --location '{url}/v1/chat/completions' \\
    --header 'Content-Type: application/json' \\
    --header 'Authorization: Bearer {key}' \\
    --data '{{
        "model": "{model}",
        "messages": [
          {{
            "role": "user",
            "content": "Who is the best French painter? Answer in one short sentence."
          }}
        ]
      }}'
"""
# vLLM, examples/offline_inference/mistral-small.py, whose pictures lie elsewhere here.
CURL_PICTURES = """curl --location '{url}/v1/chat/completions' \\
  --header 'Content-Type: application/json' \\
  --header 'Authorization: Bearer {key}' \\
  --data '{{
      "model": "{model}",
      "messages": [
        {{
          "role": "user",
          "content": [
              {{"type" : "text", "text": "What do you see?"}},
              {{"type": "image_url", "image_url": {{"url": "{picture}"}}}}
          ]
        }}
      ]
    }}'
"""
# The same page, in Python.
HTTPX = """
import {client} as httpx

url = '{url}/v1/chat/completions'
headers = {{
    'Content-Type': 'application/json',
    'Authorization': 'Bearer {key}'
}}
data = {{
    "model": "{model}",
    "messages": [
        {{
            "role": "user",
            "content": "Who is the best French painter? Answer in one short sentence."
        }}
    ]
}}

response = httpx.post(url, headers=headers, json=data)
import json
print(json.dumps(response.json()))
"""
# Apolo's documentation of Mistral; its clients send no key, which there is none without.
REQUESTS = """
import requests

API_URL = "{url}/v1/chat/completions"

headers = {{
    "Content-Type": "application/json",
    "Authorization": "Bearer {key}",
}}

data = {{
    "model": "{model}",
    "messages": [
        {{
            "role": "system",
            "content": "You are a helpful assistant that gives concise and clear answers.",
        }},
        {{
            "role": "user",
            "content": (
                "I'm preparing a presentation for non-technical stakeholders "
                "about the benefits and limitations of using large language models in our customer support "
                "workflows. "
                "Can you help me outline the key points I should include, with clear, "
                "jargon-free explanations and practical examples?"
            ),
        }},
    ]
}}

response = requests.post(API_URL, headers=headers, json=data)
response.raise_for_status()
print(response.text)
"""


@pytest.fixture(scope="module")
def website() -> Iterator[Website]:
    with serve_website() as site:
        yield site


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """The app with its API, whose model is ready."""
    app = App(
        tmp_path_factory.mktemp("api"),
        *("--api", "--allow-private-addresses", "--limit-mm-per-prompt", '{"image": 2}'),
        SIGHTLINE_API_KEY=KEY,
    )
    try:
        app.wait_until("ready")
        yield app
    finally:
        app.clean_up()


@pytest.fixture
def client(app: App) -> Iterator[httpx2.Client]:
    url, headers = f"http://127.0.0.1:{app.port}", {"Authorization": f"Bearer {KEY}"}
    with httpx2.Client(base_url=url, headers=headers, timeout=120) as client:
        yield client


def said(answer: str) -> str:
    told = json.loads(answer)
    assert told["object"] == "chat.completion", answer
    assert told["model"] == MODEL
    assert told["choices"][0]["finish_reason"] == "stop"
    return str(told["choices"][0]["message"]["content"])


def run(script: str, folder: Path) -> str:
    command = ["sh", "-c", script] if script.startswith("curl") else [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_documents_curl(app: App, tmp_path: Path) -> None:
    line = CURL.format(url=f"http://127.0.0.1:{app.port}", key=KEY, model=MODEL)
    assert "demo model" in said(run(line, tmp_path)), "it knows no painters, and says so"


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_documents_curl_with_a_picture(app: App, website: Website, tmp_path: Path) -> None:
    website.asked.clear()
    line = CURL_PICTURES.format(
        url=f"http://127.0.0.1:{app.port}", key=KEY, model=MODEL, picture=f"{website.url}/circle.png"
    )
    answer = said(run(line, tmp_path)).lower()
    assert "red" in answer
    assert "circle" in answer
    assert website.asked == ["/circle.png"], "fetched once, by the app"


@pytest.mark.parametrize(
    ("client_name", "script"), [("httpx", HTTPX), ("httpx2", HTTPX), ("requests", REQUESTS)]
)
def test_the_documents_python(app: App, client_name: str, script: str, tmp_path: Path) -> None:
    if importlib.util.find_spec(client_name) is None:
        pytest.skip(f"{client_name} is not installed")
    url = f"http://127.0.0.1:{app.port}"
    assert said(run(script.format(url=url, key=KEY, model=MODEL, client=client_name), tmp_path))


def test_the_models_are_listed(client: httpx2.Client) -> None:
    [model] = client.get("/v1/models").json()["data"]
    assert (model["id"], model["max_model_len"]) == (MODEL, 4096)


def test_an_answer_streams_with_its_usage(client: httpx2.Client) -> None:
    body = {
        "model": MODEL,
        "messages": [{"role": "user", "content": "Hello!"}],
        **{"stream": True, "stream_options": {"include_usage": True}},
    }
    with client.stream("POST", "/v1/chat/completions", json=body) as answer:
        lines = [line for line in answer.iter_lines() if line]
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert lines[-1] == "data: [DONE]"
    assert json.loads(lines[-2].removeprefix("data: "))["usage"]["completion_tokens"] > 0


def test_plain_text_is_continued(client: httpx2.Client) -> None:
    answer = client.post("/v1/completions", json={"model": MODEL, "prompt": "Hello!", "max_tokens": 3})
    assert answer.status_code == 200, answer.text
    assert answer.json()["usage"]["completion_tokens"] <= 3


@pytest.mark.parametrize(
    ("fields", "status", "complaint"),
    [
        ({"model": "other"}, 404, "does not exist"),
        ({"chat_template": "{{ 7 * 7 }}"}, 400, "The field chat_template is not taken here."),
        ({"mm_processor_kwargs": {}}, 400, "mm_processor_kwargs"),
        ({"priority": 1}, 400, "priority"),
        ({"n": 9}, 400, "--api-max-choices"),
        (
            {
                "messages": [
                    {"role": "user", "content": [{"type": "image_url", "image_url": "file:///etc/passwd"}]}
                ]
            },
            400,
            "",
        ),
    ],
)
def test_what_is_not_taken_is_refused(
    client: httpx2.Client, fields: dict[str, Any], status: int, complaint: str
) -> None:
    body = {"model": MODEL, "messages": [{"role": "user", "content": "Hello!"}]} | fields
    answer = client.post("/v1/chat/completions", json=body)
    assert answer.status_code == status
    assert complaint in answer.json()["error"]["message"]


def test_nothing_is_answered_without_the_key_and_nothing_else_of_vllm(
    app: App, client: httpx2.Client
) -> None:
    without = httpx2.Client(base_url=client.base_url)
    with without:
        assert without.get("/v1/models").status_code == 401
        assert without.post("/v1/completions", json={}).status_code == 401
    for path in ("/tokenize", "/v1/embeddings", "/v1/load_lora_adapter", "/sleep", "/health", "/version"):
        assert client.post(path, json={}).status_code in (404, 405), path
    assert f"OpenAI's API is at http://127.0.0.1:{app.port}/v1" in app.output
    assert KEY not in app.output


def test_without_a_key_the_app_does_not_start(tmp_path: Path) -> None:
    app = App(tmp_path, "--api")
    try:
        assert app.wait_for_end(60) == 2
        assert "SIGHTLINE_API_KEY" in app.output
    finally:
        app.clean_up()
