"""The settings beside the chat: the menu of models, and what a browser keeps of what was chosen there."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import gradio as gr

from backend.config import Settings
from backend.router import Router
from backend.sizing import auto_side, longest_side, picture_tokens
from backend.types import Detail, ModelInfo
from ui import render
from ui.payload import is_seed, read_id

TEMPERATURE = (0.0, 2.0, 0.2)  # each: lowest, highest, what new visitors start with
TOP_P = (0.05, 1.0, 1.0)
MAX_TOKENS = (16, 8192, 1024)
MAX_TOKENS_STEP = 16

# The page's script keeps them in the browser's storage, by the names of ``Kept``.
JS_KEPT = "() => window.sightline?.kept() ?? {}"
JS_MODEL_AND_KEPT = "model => [model, window.sightline?.kept() ?? {}]"


def js_keep(name: str) -> str:
    """What the page does when the person changes the setting of this name."""
    return f'value => window.sightline?.keep("{name}", value)'


@dataclass(frozen=True, slots=True)
class Kept:
    """What a browser has kept; ``None`` where it has nothing that fits."""

    model: str = ""
    system: str | None = None
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    seed: str | None = None


class Menu(NamedTuple):
    """The menu of models; and what depends on the one that it stands on."""

    model: Any = gr.skip()
    facts: Any = gr.skip()
    max_tokens: Any = gr.skip()
    detail: Any = gr.skip()


class Restored(NamedTuple):
    """Every setting, in the order of the layout, and what is known of the model."""

    model: Any = gr.skip()
    system: Any = gr.skip()
    temperature: Any = gr.skip()
    top_p: Any = gr.skip()
    max_tokens: Any = gr.skip()
    seed: Any = gr.skip()
    facts: Any = gr.skip()
    detail: Any = gr.skip()


@dataclass(frozen=True, slots=True)
class ModelMenu:
    """The handlers of the settings, and what they need."""

    settings: Settings
    router: Router

    async def restore(self, posted: Any) -> Restored:
        """The settings as this browser left them, when the page opens."""
        kept = read_kept(posted, self.settings.max_message_chars)
        menu = await self.refresh(kept.model, posted)
        return Restored(
            menu.model,
            _or_skip(kept.system),
            _or_skip(kept.temperature),
            _or_skip(kept.top_p),
            menu.max_tokens,
            _or_skip(kept.seed),
            menu.facts,
            menu.detail,
        )

    async def refresh(self, chosen: Any, posted: Any) -> Menu:
        """The models that are offered now; a server's come and go."""
        now, still = await self.router.capabilities(), read_id(chosen)
        if await self.router.find(still) is None:  # its server was removed
            still = ""
        choices, name = render.menu(now.models, still, self.settings.default_model)
        return Menu(gr.update(choices=choices, value=name or None), *await self.describe(name, posted))

    async def describe(self, chosen: Any, posted: Any) -> tuple[str, Any, Any]:
        """What is known of the model that the menu stands on.

        And how long its answers may be, and what pictures cost it.
        """
        found = await self.router.find(read_id(chosen))
        model = found[1] if found is not None else None
        wanted = read_kept(posted).max_tokens or MAX_TOKENS[2]
        details = gr.update(choices=details_for(model, self.settings.image_side))
        return render.model_facts(model), longest_answer(model, wanted), details


def details_for(model: ModelInfo | None, most: int) -> list[tuple[str, str]]:
    """Labels and values for the details of pictures, with what each costs this model.

    ``most`` is the installation's longest side.
    """
    vision = model.vision if model is not None else None
    choices = []
    for detail in Detail:
        side = longest_side(detail, auto_side(vision, most))
        tokens = picture_tokens(vision, (side, side)) if vision is not None else None
        choices.append((render.detail(detail, side, tokens), detail.value))
    return choices


def longest_answer(model: ModelInfo | None, wanted: int) -> Any:
    """The slider of the longest answer, which goes no further than the model's context."""
    length = model.context_length if model is not None else None
    low, high, _ = MAX_TOKENS
    if length is not None and length < high:
        high = max(length // MAX_TOKENS_STEP * MAX_TOKENS_STEP, low + MAX_TOKENS_STEP)
        return gr.update(maximum=high, value=min(wanted, high), info=render.longest_answer(length))
    return gr.update(maximum=high, value=wanted, info=render.longest_answer())


def read_kept(posted: object, max_chars: int = 0) -> Kept:
    """What the page found in the browser's storage, where anything may stand."""
    found = posted if isinstance(posted, dict) else {}
    system, seed = found.get("system"), found.get("seed")
    max_tokens = _within(found.get("max_tokens"), MAX_TOKENS)
    return Kept(
        model=read_id(found.get("model")),
        system=system if isinstance(system, str) and len(system) <= max_chars else None,
        temperature=_within(found.get("temperature"), TEMPERATURE),
        top_p=_within(found.get("top_p"), TOP_P),
        max_tokens=None if max_tokens is None else int(max_tokens),
        seed=seed if isinstance(seed, str) and is_seed(seed) else None,
    )


def _within(value: object, limits: tuple[float, float, float]) -> float | None:
    low, high, _ = limits
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value if low <= value <= high else None


def _or_skip(value: object) -> Any:
    return gr.skip() if value is None else value
