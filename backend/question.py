"""A question from the command line: its words, and the pictures from wherever they are."""

import asyncio
import base64
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backend.addresses import shown_address
from backend.errors import ConfigError, ImageError
from backend.fetch import Fetcher
from backend.images import ALL_PAGES
from backend.picture_pool import PicturePool
from backend.types import Detail, Image, Message, Part, Text

ROLES = ("system", "user", "assistant")
_PAGES = re.compile(r"#page=(\d{1,6})(?:-(\d{1,6}))?$")


@dataclass(frozen=True, slots=True)
class Reader:
    """Reads questions and the pictures that they name.

    ``progress`` is told what takes its time, ``note`` what of a file is not used.
    """

    fetcher: Fetcher
    pictures: PicturePool
    progress: Callable[[str], None]
    note: Callable[[str], None]
    detail: Detail = Detail.AUTO

    async def question(self, words: Sequence[str]) -> tuple[Message, ...]:
        """One question: its prompt, and the places of its pictures, which are files or web addresses.

        Raises:
            ConfigError: there is nothing to ask.
            ImageError, FetchError: a picture cannot be taken.
        """
        prompt, *places = words
        if not prompt.strip() and not places:
            raise ConfigError("The question is empty.", "Write some words, or name a picture.")
        pictures = [picture for place in places for picture in await self._pictures(place, self.detail)]
        return (Message("user", (*((Text(prompt),) if prompt.strip() else ()), *pictures)),)

    async def chat(self, file: Path) -> tuple[Message, ...]:
        """A whole chat: a JSON list of messages in OpenAI's form.

        A picture is a web address, a ``data:`` URL, or a path beside the file.

        Raises:
            ConfigError: the file is not of this form.
            ImageError, FetchError: a picture cannot be taken.
        """
        try:
            rows = json.loads(await asyncio.to_thread(file.read_text, encoding="utf-8"))
            messages = tuple([await self._message(row, file.parent) for row in rows])
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(
                f"The file “{file.name}” cannot be read.", "Check the path given with --messages."
            ) from error
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
            raise ConfigError(
                f"The file “{file.name}” is no list of chat messages.",
                'It looks like [{"role": "user", "content": "…"}]; content may be a list of parts, '
                '{"type": "text", "text": "…"} or {"type": "image_url", "image_url": {"url": "…"}}.',
            ) from error
        if not messages or messages[-1].role != "user":
            raise ConfigError(
                f"The chat in “{file.name}” does not end with a question.", "Its last role is “user”."
            )
        return messages

    async def _message(self, row: Any, folder: Path) -> Message:
        if row["role"] not in ROLES:
            raise ValueError("no such role")
        content = row["content"]
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
        return Message(row["role"], tuple([one for part in parts for one in await self._parts(part, folder)]))

    async def _parts(self, part: Any, folder: Path) -> Sequence[Part]:
        if part["type"] == "text" and isinstance(part["text"], str):
            return (Text(part["text"]),)
        if part["type"] != "image_url":
            raise ValueError("no such part")
        named = (
            part["image_url"] if isinstance(part["image_url"], dict) else {"url": part["image_url"]}
        )  # Mistral's
        place, detail = named["url"], Detail(named.get("detail") or self.detail)
        if place.startswith("data:"):  # RFC 2397
            data = base64.b64decode(place.partition(",")[2], validate=True)
            return await self._load(data, "picture", detail)
        return await self._pictures(place if "://" in place else str(folder / place), detail)

    async def _pictures(self, place: str, detail: Detail) -> Sequence[Image]:
        """What is at a place: one picture, or the pages of a document, which ``#page=2-4`` may follow."""
        place, pages = split_pages(place)
        if "://" not in place:
            return await self._load(
                await asyncio.to_thread(_own_file, place), Path(place).name, detail, pages
            )
        self.progress(f"Fetching {shown_address(place)} …")
        fetched = await self.fetcher.fetch(place)
        return await self._load(fetched.data, fetched.name, detail, pages)

    async def _load(
        self, source: Path | bytes, name: str, detail: Detail, pages: range = ALL_PAGES
    ) -> Sequence[Image]:
        loaded = await self.pictures.load(source, name, detail, pages=pages)
        for remark in loaded.remarks:
            self.note(remark)
        return loaded.pictures


def split_pages(place: str) -> tuple[str, range]:
    """A place without the pages that are named behind it (RFC 8118, 3), and these, counted from 0."""
    found = _PAGES.search(place)
    if found is None:
        return place, ALL_PAGES
    first, last = int(found[1]), int(found[2] or found[1])
    return place[: found.start()], range(max(first - 1, 0), last)


def _own_file(place: str) -> Path:
    try:
        path = Path(place).expanduser()
        path.open("rb").close()
    except (OSError, RuntimeError, ValueError) as error:  # no such file, person, or path at all
        raise ImageError(f"“{place}” cannot be read.", "Check the path of the picture.") from error
    return path.absolute()
