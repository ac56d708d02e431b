"""Files that wait in a composer: our own routes in the place of Gradio's, which know no visitors.

Gradio's upload route names a file by its content, so two visitors with the same picture share one, and
takes any number from anybody. Its file route fetches any web address that is written into its path. Here
each upload gets a folder of its own below its owner's, and only its owner can see or send it. What goes
back to a browser is never the file, but a small picture of it that was made here.
"""

import asyncio
import contextlib
import re
import secrets
import shutil
import tempfile
import time
from collections.abc import Hashable
from pathlib import Path
from urllib.parse import quote
from weakref import WeakValueDictionary

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from backend.admission import Admission, address_key
from backend.errors import ImageError, LimitError
from backend.names import shown_name
from backend.picture_cache import PictureCache
from ui.payload import PREVIEW, forget_upload_at
from ui.visitors import address_of, owner_behind

FILES_PER_VISITOR = 100  # that wait at the same time; sent ones are gone
KEPT_S = 24 * 3600
FREE_BYTES = 10**9  # uploads end where the disk is nearly full: what is stored for good needs room
CHECKED_EVERY = 2**20  # bytes of an upload
DAMAGED = Path(__file__).resolve().parents[1] / "assets" / "web" / "damaged.svg"
REFUSED = b"refused: "  # how what is kept in the place of a preview begins; the sentence follows
PNG = b"\x89PNG"  # how such a file begins; the other kind that is made here is JPEG
_UNSAFE = re.compile(r"[^\w.\- ]")


class Uploads:
    """The folder of waiting files: ``folder/<owner>/<random>/<name>``."""

    def __init__(
        self,
        folder: Path,
        max_file_bytes: int,
        max_files: int,
        admission: Admission,
        pictures: PictureCache,
        *,
        kept_s: float = KEPT_S,
    ) -> None:
        self.folder = folder.absolute()  # the page posts these paths back, without a folder to start from
        self._max_bytes = max_file_bytes
        self._max_files = max_files
        self._admission = admission
        self._pictures = pictures
        self._kept_s = kept_s
        self._looks: WeakValueDictionary[Path, asyncio.Lock] = WeakValueDictionary()

    def of(self, owner: str) -> Path:
        """The folder of one visitor's files."""
        return self.folder / owner

    def place(self, owner: str, name: str) -> Path:
        """Where a new file of this name is to lie; its folder is made."""
        folder = self.of(owner) / secrets.token_hex(16)
        folder.mkdir(parents=True, mode=0o700)
        safe = _UNSAFE.sub("_", shown_name(name))[-60:].strip(". ")  # a file system counts bytes, up to 255
        return folder / (safe or "picture")

    def sweep(self) -> None:
        """Delete what has waited too long, and the folders of owners that this leaves empty."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        oldest = time.time() - self._kept_s
        for owner in self.folder.iterdir():
            with contextlib.suppress(OSError):  # no folder, or forgotten meanwhile
                is_old = owner.stat().st_mtime < oldest  # a new one is about to be filled
                for folder in owner.iterdir():
                    with contextlib.suppress(OSError):  # sent meanwhile
                        if folder.stat().st_mtime < oldest:
                            shutil.rmtree(folder, ignore_errors=True)
                if is_old:
                    owner.rmdir()

    def forget(self, owner: str) -> None:
        """Delete all files of one visitor."""
        shutil.rmtree(self.of(owner), ignore_errors=True)

    def routes(self) -> list[BaseRoute]:
        """The routes that Gradio's page calls, to come before Gradio's own."""
        return [
            Route("/gradio_api/upload", self._upload, methods=["POST"]),
            Route("/gradio_api/file={path:path}", self._file, methods=["GET", "HEAD"]),
        ]

    async def _upload(self, request: Request) -> Response:
        """Take files; answers with their paths, as Gradio's route does."""
        owner = owner_behind(request)
        if owner is None:
            return PlainTextResponse("Allow cookies for this site, then reload the page.", 403)
        refusal = await self._refusal(owner, request)
        if refusal is not None:
            return refusal
        counted = _Counted(request, self._max_bytes * self._max_files, self.folder)
        try:
            async with Request(request.scope, counted.receive).form(
                max_files=self._max_files, max_fields=10
            ) as form:
                files = [item for item in form.getlist("files") if isinstance(item, UploadFile)]
                if any((file.size or 0) > self._max_bytes for file in files):
                    raise _TooLargeError
                if len(files) > 1:  # the first was counted before the others could be
                    self._admission.take_pictures(address_of(request), len(files) - 1, counted=1)
                return JSONResponse([await self._keep(owner, file) for file in files])
        except LimitError as error:
            return PlainTextResponse(str(error), 429)
        except _TooLargeError:
            return self._too_large()
        except (MultiPartException, ClientDisconnect):
            return PlainTextResponse("This was not an upload.", 400)

    async def _refusal(self, owner: str, request: Request) -> Response | None:
        """Why nothing is taken from this visitor now, before anything of it is read."""
        try:
            self._admission.take_pictures(address_of(request))
        except LimitError as error:
            return PlainTextResponse(str(error), 429)
        try:
            await run_in_threadpool(self.check, owner)
        except LimitError as error:
            return PlainTextResponse(str(error), 507)
        return None

    async def _keep(self, owner: str, file: UploadFile) -> str:
        path = await run_in_threadpool(self.place, owner, file.filename or "")
        await run_in_threadpool(_copy, file, path)
        return str(path)

    async def _file(self, request: Request) -> Response:
        """A small picture of one of the visitor's own waiting files, for the composer; or the whole one."""
        owner = owner_behind(request)
        path = await run_in_threadpool(self._own_file, owner, request.path_params["path"]) if owner else None
        who = address_key(address_of(request))
        look = self._whole if request.query_params.get("size") == "whole" else self._preview
        shown = await look(owner, path, who) if owner and path else None
        if shown is None:
            return PlainTextResponse("Not found", 404)
        headers = {"Cache-Control": "private, no-store"}
        if shown.startswith(REFUSED):
            headers["X-Refused"] = quote(shown.removeprefix(REFUSED))
            return FileResponse(DAMAGED, media_type="image/svg+xml", headers=headers)
        media_type = "image/png" if shown.startswith(PNG) else "image/jpeg"
        return Response(shown, media_type=media_type, headers=headers)

    async def _preview(self, owner: str, path: Path, who: Hashable) -> bytes | None:
        """The file's first picture, small, as it is kept beside it, or why there is none.

        None where the file was sent meanwhile.
        """
        async with self._looks.setdefault(path, asyncio.Lock()):  # of a hundred who ask at once one decodes
            data = await run_in_threadpool(_read, path.with_name(PREVIEW))
            if data is None:
                try:
                    # As it will be sent, if nothing else is chosen: then it is decoded once.
                    loaded = await self._pictures.load(owner, path, path.name, pages=range(1), who=who)
                    data = loaded.pictures[0].thumbnail or loaded.pictures[0].data
                except ImageError as error:
                    data = _refused(error)  # kept too: whoever asks again must not cost another try
                if not await run_in_threadpool(_keep_beside, path, data):
                    return None
        return data

    async def _whole(self, owner: str, path: Path, who: Hashable) -> bytes | None:
        """The file's first picture as it would be sent; as ``_preview`` of one that cannot be opened."""
        small = await self._preview(owner, path, who)
        if small is None or small.startswith(REFUSED):
            return small
        try:
            loaded = await self._pictures.load(owner, path, path.name, pages=range(1), who=who)
        except ImageError as error:
            return _refused(error)
        return loaded.pictures[0].data

    def _own_file(self, owner: str, posted: str) -> Path | None:
        try:
            path = Path("/" + posted.lstrip("/")).resolve()
            return path if path.is_relative_to(self.of(owner).resolve()) and path.is_file() else None
        except (OSError, ValueError):  # too long, or no path at all
            return None

    def check(self, owner: str) -> None:
        """See whether another file may wait.

        Raises:
            LimitError: too many of this visitor's files wait, or the disk is nearly full.
        """
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        check_disk(self.folder)
        if self.of(owner).exists() and sum(1 for _ in self.of(owner).iterdir()) >= FILES_PER_VISITOR:
            raise LimitError(f"{FILES_PER_VISITOR} of your pictures wait already.", "Send or remove some.")

    def keep(self, owner: str, name: str, data: bytes) -> Path:
        """Let a picture of ours wait as if the page had uploaded it.

        Raises:
            LimitError: as ``check``, or the disk is full.
        """
        self.check(owner)
        try:
            path = self.place(owner, name)
            path.write_bytes(data)
        except OSError as error:
            raise LimitError("The picture could not be kept on the server.", "Try again later.") from error
        return path

    def _too_large(self) -> Response:
        return PlainTextResponse(f"Larger than the {self._max_bytes // 10**6} MB of --max-file-mb.", 413)


def check_disk(folder: Path) -> None:
    """See whether there is room for what people send, there and where it lies while it comes.

    Raises:
        LimitError: one of the disks is nearly full.
    """
    if min(shutil.disk_usage(place).free for place in (folder, tempfile.gettempdir())) < FREE_BYTES:
        raise LimitError("The server's disk is nearly full.", "Try again later.")


def _refused(error: ImageError) -> bytes:
    return REFUSED + str(error).encode()


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None


def _keep_beside(path: Path, preview: bytes) -> bool:
    """Whether the file still waits, and has its preview now."""
    kept = path.with_name(PREVIEW)
    unfinished = kept.with_suffix(f".{secrets.token_hex(4)}")
    with contextlib.suppress(OSError):
        unfinished.write_bytes(preview)
        unfinished.replace(kept)
    if path.exists():
        return kept.exists()
    with contextlib.suppress(OSError):
        unfinished.unlink(missing_ok=True)
    forget_upload_at(path)  # it went while this was being made, and left its folder for it
    return False


def _copy(file: UploadFile, path: Path) -> None:
    with path.open("xb") as target:
        shutil.copyfileobj(file.file, target)


class _TooLargeError(Exception):
    """More came than all the files of a message may have together."""


class _Counted:
    """A request's body, up to so many bytes, and while there is room for it."""

    def __init__(self, request: Request, max_bytes: int, folder: Path) -> None:
        self._receive = request.receive
        self._folder = folder
        self._left = max_bytes + 1_000_000  # the form around the files
        self._checked = self._left

    async def receive(self) -> "dict[str, object]":
        message = await self._receive()
        self._left -= len(message.get("body", b""))
        if self._left < 0:
            raise _TooLargeError
        if self._checked - self._left > CHECKED_EVERY:  # many may come at once, each slowly
            self._checked = self._left
            await run_in_threadpool(check_disk, self._folder)
        return dict(message)
