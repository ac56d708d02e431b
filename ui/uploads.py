"""Files that wait in a composer: our own routes in the place of Gradio's, which know no visitors.

Gradio's upload route names a file by its content, so two visitors with the same picture share one, and
takes any number from anybody. Its file route fetches any web address that is written into its path. Here
each upload gets a folder of its own below its owner's, and only its owner can read or send it.
"""

import contextlib
import re
import secrets
import shutil
import time
from pathlib import Path

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from backend.errors import LimitError
from backend.images import shown_name
from ui.visitors import owner_of

FILES_PER_VISITOR = 100  # that wait at the same time; sent ones are gone
KEPT_S = 24 * 3600
SWEEP_EVERY_S = 3600
FREE_BYTES = 10**9  # uploads end where the disk is nearly full: what is stored for good needs room
IMAGE_TYPES = {".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".png": "image/png"}
_UNSAFE = re.compile(r"[^\w.\- ]")


class Uploads:
    """The folder of waiting files: ``folder/<owner>/<random>/<name>``."""

    def __init__(self, folder: Path, max_file_bytes: int, max_files: int) -> None:
        self.folder = folder.absolute()  # the page posts these paths back, without a folder to start from
        self._max_bytes = max_file_bytes
        self._max_files = max_files
        self._swept_at = float("-inf")

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
        """Delete what has waited for a day, and the folders that this leaves empty."""
        self._swept_at = time.monotonic()
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        oldest = time.time() - KEPT_S
        for folder in self.folder.glob("*/*"):
            with contextlib.suppress(OSError):  # sent meanwhile
                if folder.stat().st_mtime < oldest:
                    shutil.rmtree(folder, ignore_errors=True)
        for owner in self.folder.iterdir():
            with contextlib.suppress(OSError):  # no folder, or not empty
                owner.rmdir()

    def routes(self) -> list[BaseRoute]:
        """The routes that Gradio's page calls, to come before Gradio's own."""
        return [
            Route("/gradio_api/upload", self._upload, methods=["POST"]),
            Route("/gradio_api/file={path:path}", self._file, methods=["GET", "HEAD"]),
        ]

    async def _upload(self, request: Request) -> Response:
        """Take files; answers with their paths, as Gradio's route does."""
        owner = owner_of(request.cookies)
        if owner is None:
            return PlainTextResponse("Allow cookies for this site, then reload the page.", 403)
        try:
            await run_in_threadpool(self.check, owner)
        except LimitError as error:
            return PlainTextResponse(str(error), 507)
        counted = _Counted(request, self._max_bytes * self._max_files)
        try:
            async with Request(request.scope, counted.receive).form(
                max_files=self._max_files, max_fields=10
            ) as form:
                files = [item for item in form.getlist("files") if isinstance(item, UploadFile)]
                if any((file.size or 0) > self._max_bytes for file in files):
                    return self._too_large()
                return JSONResponse([await self._keep(owner, file) for file in files])
        except _TooLargeError:
            return self._too_large()
        except (MultiPartException, ClientDisconnect):
            return PlainTextResponse("This was not an upload.", 400)

    async def _keep(self, owner: str, file: UploadFile) -> str:
        path = await run_in_threadpool(self.place, owner, file.filename or "")
        await run_in_threadpool(_copy, file, path)
        return str(path)

    async def _file(self, request: Request) -> Response:
        """One of the visitor's own waiting files, for the composer's thumbnail."""
        owner = owner_of(request.cookies)
        path = await run_in_threadpool(self._own_file, owner, request.path_params["path"]) if owner else None
        if path is None:
            return PlainTextResponse("Not found", 404)
        # Only by what images.py makes or a browser can show safely; a page or an SVG could run a script.
        media_type = IMAGE_TYPES.get(path.suffix.lower(), "application/octet-stream")
        return FileResponse(path, media_type=media_type, headers={"Cache-Control": "private, no-store"})

    def _own_file(self, owner: str, posted: str) -> Path | None:
        try:
            path = Path("/" + posted.lstrip("/")).resolve()
            return path if path.is_relative_to(self.of(owner).resolve()) and path.is_file() else None
        except (OSError, ValueError):  # too long, or no path at all
            return None

    def check(self, owner: str) -> None:
        """Sweep now and then, and see whether another file may wait.

        Raises:
            LimitError: too many of this visitor's files wait, or the disk is nearly full.
        """
        if time.monotonic() - self._swept_at > SWEEP_EVERY_S:
            self.sweep()
        if shutil.disk_usage(self.folder).free < FREE_BYTES:
            raise LimitError("The server's disk is nearly full.", "Try again later.")
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


def _copy(file: UploadFile, path: Path) -> None:
    with path.open("xb") as target:
        shutil.copyfileobj(file.file, target)


class _TooLargeError(Exception):
    """More came than all the files of a message may have together."""


class _Counted:
    """A request's body, up to so many bytes."""

    def __init__(self, request: Request, max_bytes: int) -> None:
        self._receive = request.receive
        self._left = max_bytes + 1_000_000  # the form around the files

    async def receive(self) -> "dict[str, object]":
        message = await self._receive()
        self._left -= len(message.get("body", b""))
        if self._left < 0:
            raise _TooLargeError
        return dict(message)
