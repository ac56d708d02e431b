"""One picture over HTTP: the one event of the page that Gradio's clients may call (docs/captioning.md)."""

import asyncio
from dataclasses import dataclass
from typing import Any

import gradio as gr

from backend.admission import Admission, Ticket, address_key
from backend.captioning.presets import PRESETS
from backend.captioning.single import caption_one
from backend.captioning.values import JobSpec
from backend.config import Settings
from backend.errors import InputError, LimitError, SightlineError
from backend.metrics import Metrics
from backend.picture_pool import PicturePool
from backend.router import Router
from backend.types import Image, ModelInfo
from ui.caption_form import read_spec
from ui.payload import Upload, forget_upload, read_composer
from ui.uploads import Uploads
from ui.visitors import address_of, require_owner

NAME = "caption"


@dataclass(frozen=True, slots=True)
class CaptionOne:
    """The handler, and what it needs."""

    router: Router
    pictures: PicturePool
    uploads: Uploads
    admission: Admission
    metrics: Metrics
    settings: Settings

    async def caption(  # noqa: PLR0917 - in the order of the event's inputs
        self,
        request: gr.Request,
        picture: Any,
        preset: Any = "",
        prompt: Any = "",
        model: Any = "",
        schema: Any = "",
    ) -> str:
        """The caption of one uploaded picture. It counts as a message of its visitor's, and waits like one.

        Raises:
            gr.Error: what went wrong, in a sentence.
        """
        try:
            return await self._caption(picture, (preset, prompt, model, schema), request)
        except SightlineError as error:
            raise gr.Error(str(error), print_exception=False) from error

    async def _caption(self, picture: object, wanted: tuple[object, ...], request: gr.Request) -> str:
        owner, host = require_owner(request), address_of(request)
        (upload,) = read_composer({"files": [picture]}, self.uploads.of(owner)).uploads or (None,)
        if upload is None:
            raise InputError("There is no picture.", "Give it with handle_file(…) of gradio_client.")
        try:
            with self._admit(owner, host) as ticket:
                spec, image = await self._prepare(upload, wanted, address_key(host))
                async for _ in ticket.line():
                    pass
                return await caption_one(self.router, spec, image)
        finally:
            await asyncio.to_thread(forget_upload, upload)

    def _admit(self, owner: str, host: str | None) -> Ticket:
        try:
            return self.admission.enter(owner, host)
        except LimitError:
            self.metrics.refused()
            raise

    async def _prepare(self, upload: Upload, wanted: tuple[object, ...], who: str) -> tuple[JobSpec, Image]:
        """What is asked of the picture, and the picture; nobody waits in line to hear that it cannot be."""
        names = ("preset", "prompt", "model", "schema")
        posted = {name: value for name, value in zip(names, wanted, strict=True) if isinstance(value, str)}
        if posted.get("schema"):
            posted["preset"] = "fields"
        preset = posted.get("preset") or ("own" if posted.get("prompt") else "sentence")
        if preset not in ("own", *(known.id for known in PRESETS)):
            raise InputError(f"There is no preset “{preset[:20]}”.", f"There are: {_presets()}.")
        model = await self._model(posted.get("model") or self.settings.default_model or "")
        spec = read_spec(posted | {"preset": preset, "model": model.name}, self.settings.max_message_chars)
        loaded = await self.pictures.load(
            upload.path, upload.name, pages=range(1), vision=model.vision, for_people=False, who=who
        )
        return spec, loaded.pictures[0]

    async def _model(self, name: str) -> ModelInfo:
        """The model of this name, or the first of the menu."""
        if not name:
            models = (await self.router.capabilities()).models
            if models:
                return models[0]
        elif (found := await self.router.find(name)) is not None:
            return found[1]
        raise InputError("This model is not offered here.", "Leave it out, or name one of the page's menu.")


def _presets() -> str:
    return ", ".join(preset.id for preset in PRESETS)


def lay_out(one: CaptionOne, plain: dict[str, Any]) -> None:
    """The event, with nothing to be seen of it in the page."""
    picture = gr.File(visible=False, label="Picture")
    words = [
        gr.Textbox("", visible=False, label=name) for name in ("Preset", "Prompt", "Model", "JSON schema")
    ]
    trigger, caption = gr.Button(visible=False), gr.Textbox(visible=False, label="Caption")
    trigger.click(
        one.caption,
        [picture, *words],
        caption,
        api_name=NAME,
        concurrency_limit=None,  # admission has the limits, and says what they are
        **plain | {"api_visibility": "public"},
    )
