"""Somebody who posts to Gradio's own routes by hand, past the page."""

import json
import secrets
from collections.abc import Mapping, Sequence
from typing import Any, Self

import httpx2


class GradioClient:
    """Posts events as a page would, with the cookies of a visitor or as a new one."""

    def __init__(self, url: str, cookies: Mapping[str, str] | None = None) -> None:
        self.http = httpx2.Client(base_url=url, headers={"Origin": url}, timeout=60, trust_env=False)
        self.http.cookies.update(dict(cookies or {}))
        self.http.get("/")
        config = self.http.get("/config").json()
        self._events = {event["api_name"]: event for event in config["dependencies"]}
        parts = config["components"]
        self._defaults = {part["id"]: part["props"].get("value") for part in parts}
        self._named = {part["props"].get("elem_id"): part["id"] for part in parts}
        models = self.http.get("/readyz").json()["models"]
        self._defaults[self._named["model"]] = models[0]  # the page fills it when it opens

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()

    def call(self, name: str, data: Sequence[Any]) -> str:
        """Post an event; everything that comes back. ``data`` is filled up with what a new page holds."""
        session = secrets.token_hex(8)
        if not self._events[name]["queue"]:
            return self.post("/gradio_api/run/predict", name, data, session).text
        joined = self.post("/gradio_api/queue/join", name, data, session)
        if joined.status_code != 200:
            return joined.text
        return self.http.get("/gradio_api/queue/data", params={"session_hash": session}).text

    def send(self, text: str, files: Sequence[Any]) -> str:
        """Send a message in a new chat; what comes back once its reply has ended, or was refused."""
        said = self.call("send", [{"text": text, "files": files}, ""])
        chat_id = json.loads(said)["data"][self._events["send"]["outputs"].index(self._named["growing-in"])]
        if not chat_id:
            return said
        self.http.get(f"/replies/{chat_id}")  # which ends with it
        return self.call("settle", [chat_id])

    def post(self, route: str, name: str, data: Sequence[Any], session: str = "x") -> httpx2.Response:
        """Post an event to one of the routes that take events, and wait for nothing."""
        event = self._events[name]
        rest = [self._defaults[part] for part in event["inputs"][len(data) :]]
        body = {"data": [*data, *rest], "fn_index": event["id"], "session_hash": session, "event_data": None}
        return self.http.post(route, json=body)

    def upload(self, name: str, data: bytes) -> dict[str, Any]:
        """Upload a file; the value that a composer would hold for it."""
        answer = self.http.post("/gradio_api/upload", files={"files": (name, data)})
        return file_value(answer.raise_for_status().json()[0], orig_name=name)


def file_value(path: str, **more: Any) -> dict[str, Any]:
    return {"path": path, "meta": {"_type": "gradio.FileData"}, **more}
