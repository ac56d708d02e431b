"""The captioning tab: its own routes, by which the page's script shows and changes a visitor's jobs.

A job is a table that grows for minutes, so it is no Gradio event: the script asks for what has changed, and
shows it. Who may see what is decided here, from the cookie, for each request.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from starlette.background import BackgroundTask
from starlette.concurrency import iterate_in_threadpool, run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from backend.addresses import split_addresses
from backend.admission import Admission, Rates, address_key
from backend.captioning import outputs
from backend.captioning.fields import TYPES
from backend.captioning.job_file import JobFile
from backend.captioning.job_tables import explained, no_picture
from backend.captioning.jobs import JOBS_PER_VISITOR, RUNNING_PER_ADDRESS, Jobs
from backend.captioning.presets import LANGUAGES, OWN, PRESETS, TEMPERATURE
from backend.captioning.sources import SUFFIXES, Roots
from backend.captioning.values import Counts, Row
from backend.config import MEGA, Settings
from backend.errors import (
    ImageError,
    InputError,
    LimitError,
    NotAllowedError,
    NotFoundError,
    SightlineError,
)
from backend.plain_json import read_json
from ui import caption_form
from ui.caption_form import read_text
from ui.operators import Operators
from ui.transfers import AS_FILE
from ui.uploads import CHECKED_EVERY, DAMAGED, PNG, check_disk
from ui.visitors import address_of, owner_behind

PREFIX = "/captions"
TRIAL = 3
PAGE = 100  # rows that are shown at once
MAX_BODY = 300_000
NEW_PER_MINUTE = 30  # jobs that one address may begin
MAX_ROW_ID = 2**63 - 1  # the largest number that SQLite takes
MAX_ZIP_PICTURES_MB = 10  # for each picture that a ZIP may have, on average
NOT_KEPT = "Captions are not kept here. They are gone when the app ends: download what you want to keep."
NO_STORE = {"Cache-Control": "private, no-store"}
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Captioning:
    """The routes, and what they need."""

    jobs: Jobs
    settings: Settings
    operators: Operators
    admission: Admission
    rates: Rates = field(default_factory=Rates)

    def routes(self) -> list[BaseRoute]:
        """All of them; they come before Gradio's."""
        posted: dict[str, Callable[[Request, str], Awaitable[Response]]] = {
            "new": self._new,
            "{job}/file": self._file,
            "{job}/addresses": self._addresses,
            "{job}/folder": self._folder,
            "{job}/start": self._start,
            "{job}/pause": self._pause,
            "{job}/cancel": self._cancel,
            "{job}/delete": self._delete,
            "{job}/retry": self._retry,
            "{job}/rows/{row:int}": self._change,
        }
        asked: dict[str, Callable[[Request, str], Awaitable[Response]]] = {
            "list": self._list,
            "{job}": self._show,
            "{job}/thumb/{row:int}": self._thumbnail,
            "{job}/download/{kind}": self._download,
        }
        return [
            Route(f"{PREFIX}/{path}", self._by_owner(answer), methods=[method])
            for method, ways in (("POST", posted), ("GET", asked))
            for path, answer in ways.items()
        ]

    def _by_owner(
        self, answer: Callable[[Request, str], Awaitable[Response]]
    ) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            owner = owner_behind(request)
            if owner is None:
                return _refusal("Your browser keeps no cookie of this site. Allow cookies, then reload.", 403)
            try:
                return await answer(request, owner)
            except NotFoundError as error:
                return _refusal(str(error), 404)
            except LimitError as error:
                return _refusal(str(error), 429)
            except SightlineError as error:
                return _refusal(str(error), 422)
            except ClientDisconnect:
                return _refusal("This was not all.", 400)

        return endpoint

    def _most(self, request: Request) -> int | None:
        return None if self.operators.includes(request) else self.settings.max_caption_pictures

    def _most_running(self, request: Request) -> int | None:
        return None if self.operators.includes(request) else RUNNING_PER_ADDRESS

    # What there is.

    async def _list(self, request: Request, owner: str) -> Response:
        """The visitor's jobs, and what a job can be asked for."""
        await self.jobs.resume_left()
        jobs, most = await self.jobs.listed(owner), self._most(request)
        presets = [
            {"id": one.id, "title": one.title, "hint": one.hint, "prompt": one.prompt}
            | {"maxTokens": one.max_tokens}
            for one in (*PRESETS, OWN)
        ]
        return _json(
            {
                "jobs": [caption_form.listed(job) for job in jobs],
                "presets": presets,
                "languages": LANGUAGES,
                "types": list(TYPES),
                "temperature": TEMPERATURE,
                "suffixes": [*sorted(SUFFIXES), ".zip"],
                "most": most,
                "notKept": "" if self.settings.keeps_history else NOT_KEPT,
                "folders": [str(path) for path in self._roots()] if most is None else [],
            }
        )

    async def _show(self, request: Request, owner: str) -> Response:
        """How far a job is, and the rows of one page that have changed since a revision."""
        job_id = request.path_params["job"]
        since, start = _number(request, "since", -1), max(0, _number(request, "from", 0))

        def read() -> tuple[Json, Counts]:
            with self.jobs.opened(owner, job_id) as job:
                info, counts, spec, revision = job.info(), job.counts(), job.spec, job.revision
                rows = job.rows(start, PAGE, changed_since=since)
            return {
                "state": info.state,
                "note": info.note,
                "title": info.title,
                "counts": caption_form.counts(counts),
                "revision": revision,
                "rows": [caption_form.row(row, spec) for row in rows],
                "spec": caption_form.spec(spec),
            }, counts

        is_running = self.jobs.is_running(owner, job_id)  # before its state: that is told last
        told, counts = await run_in_threadpool(read)
        speed, note = self.jobs.progress(owner, job_id)
        left, cost = speed.left_s(counts.pending), await self.jobs.cost(told["spec"]["model"], counts)
        told |= {
            "running": is_running,
            "pausing": self.jobs.is_pausing(owner, job_id),
            "perMinute": round(speed.pictures_per_minute, 1),
            "tokensPerSecond": round(speed.tokens_per_second, 1),
            "leftSeconds": None if left is None else round(left),
            "cost": None if cost is None else caption_form.cost(cost),
            "note": note or told["note"],
        }
        return _json(told)

    async def _thumbnail(self, request: Request, owner: str) -> Response:
        """A picture, small; the sign of one that cannot be opened says to look at its row for the reason."""
        job_id, who = request.path_params["job"], _address(request)
        try:
            data = await self.jobs.previews.look(owner, job_id, _row_id(request), who)
        except ImageError:
            return FileResponse(DAMAGED, media_type="image/svg+xml", headers=NO_STORE)
        kind = "image/png" if data.startswith(PNG) else "image/jpeg"
        return Response(data, media_type=kind, headers=NO_STORE)

    # Pictures in.

    async def _new(self, request: Request, owner: str) -> Response:
        most, address = JOBS_PER_VISITOR if self._most(request) is not None else None, _address(request)
        wait_s = self.rates.wait_s(NEW_PER_MINUTE, address)
        if wait_s is not None:
            raise LimitError(
                f"Your network has begun as many captioning jobs as it may in a minute: {NEW_PER_MINUTE}.",
                f"Wait {wait_s} s and try again.",
            )
        self.rates.count(NEW_PER_MINUTE, address)
        await run_in_threadpool(check_disk, self.settings.data_dir)
        return _json({"id": await self.jobs.create(owner, most)})

    async def _file(self, request: Request, owner: str) -> Response:
        """One picture, or a ZIP, as the body; its name stands in the query."""
        job_id, name = request.path_params["job"], request.query_params.get("name", "picture")
        most = self._most(request)
        self.admission.take_pictures(address_of(request))
        path = await run_in_threadpool(self.jobs.place_for, owner, job_id, name)
        try:
            await self._receive(request, path, self._most_mb(path, most))
            added = await run_in_threadpool(self.jobs.add_file, owner, job_id, path, most)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        return _json({"added": added})

    def _most_mb(self, path: Path, most: int | None) -> int:
        """How large a file of this name may be; refuses one of another kind."""
        if path.suffix.lower() == ".zip":
            return MAX_ZIP_PICTURES_MB * (most or 10 * self.settings.max_caption_pictures)
        if path.suffix.lower() not in SUFFIXES:
            raise InputError(
                f"“{path.name}” is no picture and no ZIP.", "Add JPEG, PNG, WebP, HEIC or the like."
            )
        return self.settings.max_file_mb

    async def _receive(self, request: Request, path: Path, limit_mb: int) -> None:
        size, checked_at = 0, -CHECKED_EVERY
        with explained(), path.open("wb") as file:
            async for chunk in request.stream():
                size += len(chunk)
                if size > limit_mb * MEGA:
                    raise LimitError(
                        f"“{path.name}” has more than {limit_mb} MB.", "Save it smaller and add that."
                    )
                if size - checked_at >= CHECKED_EVERY:
                    checked_at = size
                    await run_in_threadpool(check_disk, self.settings.data_dir)
                await run_in_threadpool(file.write, chunk)

    async def _addresses(self, request: Request, owner: str) -> Response:
        text = read_text(await _body(request), "text")
        job_id, most = request.path_params["job"], self._most(request)
        self.admission.take_pictures(address_of(request), len(split_addresses(text)))
        added = await run_in_threadpool(self.jobs.add_addresses, owner, job_id, text, most)
        return _json({"added": added})

    async def _folder(self, request: Request, owner: str) -> Response:
        """Pictures of this machine, for operators, from the folders that a setting allows."""
        if not self.operators.includes(request):
            what = "Only an operator may do this."
            raise NotAllowedError(what, "Open the operator link that the app's console shows.")
        place = read_text(await _body(request), "text").strip()
        if "://" in place:
            raise InputError("That is no folder.", "Add web addresses below.")
        roots = Roots(self._roots())
        added = await run_in_threadpool(self.jobs.add_folder, owner, request.path_params["job"], place, roots)
        return _json({"added": added})

    def _roots(self) -> tuple[Path, ...]:
        return tuple(Path(name) for name in self.settings.caption_folders)

    # Work.

    async def _start(self, request: Request, owner: str) -> Response:
        """Begin, or go on; ``trial``: with a few only."""
        body = await _body(request)
        options, most = body.get("options"), self.settings.max_message_chars
        spec = caption_form.read_spec(options, most) if isinstance(options, dict) else None
        trial = TRIAL if body.get("trial") is True else None
        who, running = _address(request), self._most_running(request)
        await self.jobs.start(owner, request.path_params["job"], spec, trial, who=who, most=running)
        return _json({})

    async def _pause(self, request: Request, owner: str) -> Response:
        await self.jobs.pause(owner, request.path_params["job"])
        return _json({})

    async def _cancel(self, request: Request, owner: str) -> Response:
        await self.jobs.cancel(owner, request.path_params["job"])
        return _json({})

    async def _delete(self, request: Request, owner: str) -> Response:
        await self.jobs.delete(owner, request.path_params["job"])
        return _json({})

    async def _retry(self, request: Request, owner: str) -> Response:
        """Failed pictures, those with an empty caption, or these once more; the job goes on by itself."""
        which, job_id = (await _body(request)).get("which"), request.path_params["job"]
        if which not in ("failed", "empty"):
            which = [row for row in which if isinstance(row, int)] if isinstance(which, list) else []
            if len(which) > PAGE:
                raise InputError("These are too many at once.", f"Retry up to {PAGE}, or all that failed.")
            which = [row for row in which if abs(row) <= MAX_ROW_ID]
        who, running = _address(request), self._most_running(request)
        if not self.jobs.is_running(owner, job_id):
            self.jobs.check_room(who, running)  # else they would be pending, and nobody at work
        count = await run_in_threadpool(self.jobs.retry, owner, job_id, which)
        may_start = count and not self.jobs.is_running(owner, job_id)
        if may_start and await run_in_threadpool(self.jobs.has_begun, owner, job_id):  # no draft begins so
            await self.jobs.start(owner, job_id, None, who=who, most=running)
        return _json({"count": count})

    async def _change(self, request: Request, owner: str) -> Response:
        """Edit a caption, undo that, accept it, or take a picture out of a draft."""
        body, row_id = await _body(request), _row_id(request)

        def change(job: JobFile) -> Row | None:
            if body.get("remove") is True:
                job.remove(row_id)
                return None
            if body.get("undo") is True:
                return job.undo_edit(row_id)
            if isinstance(body.get("accepted"), bool):
                return job.accept(row_id, body["accepted"])
            check_disk(self.settings.data_dir)
            return job.edit(row_id, read_text(body, "text"))

        def run() -> Json:
            with self.jobs.opened(owner, request.path_params["job"]) as job:
                row = change(job)
                return {"row": caption_form.row(row, job.spec)} if row is not None else {}

        return _json(await run_in_threadpool(run))

    # Out.

    async def _download(self, request: Request, owner: str) -> Response:
        """The table of all pictures, or a ZIP with a text file for each."""
        job_id, kind = request.path_params["job"], request.path_params["kind"]
        names = {"csv": "text/csv", "jsonl": "application/jsonl", "zip": "application/zip"}
        if kind not in names:
            raise NotFoundError("There is no such download.", "Choose CSV, JSONL or ZIP.")
        headers = AS_FILE | {"Content-Disposition": f'attachment; filename="captions.{kind}"'}
        media_type = f"{names[kind]}; charset=utf-8" if kind != "zip" else names[kind]
        if kind == "zip":
            path = await run_in_threadpool(partial(self._packed, owner, job_id))
            gone = BackgroundTask(path.unlink, missing_ok=True)
            return FileResponse(path, media_type=media_type, headers=headers, background=gone)
        with self.jobs.opened(owner, job_id):
            pass  # it is there, which is said before the answer begins
        pieces = iterate_in_threadpool(self._table(owner, job_id, kind))
        return StreamingResponse(_encoded(pieces), media_type=media_type, headers=headers)

    def _table(self, owner: str, job_id: str, kind: str) -> Iterator[str]:
        with self.jobs.opened(owner, job_id) as job:
            yield from outputs.table(kind, job.all_rows(), job.spec)

    def _packed(self, owner: str, job_id: str) -> Path:
        with self.jobs.opened(owner, job_id) as job:
            return outputs.packed(job.all_rows, job.spec)


async def _body(request: Request) -> Json:
    """What the script posts, a JSON object.

    Raises:
        InputError: it is none, or too long.
    """
    data = bytearray()
    async for chunk in request.stream():
        data += chunk
        if len(data) > MAX_BODY:
            raise InputError("That is too long.", "Shorten it.")
    try:
        found = read_json(bytes(data) or b"{}")
    except ValueError as error:
        raise InputError("This was not understood.", "Reload the page and try again.") from error
    return found if isinstance(found, dict) else {}


def _row_id(request: Request) -> int:
    row_id = int(request.path_params["row"])
    if row_id > MAX_ROW_ID:
        raise no_picture()
    return row_id


def _address(request: Request) -> str:
    return address_key(address_of(request))


def _number(request: Request, name: str, default: int) -> int:
    value = request.query_params.get(name, "")
    return int(value) if value.removeprefix("-").isdecimal() and len(value) < 10 else default


async def _encoded(pieces: AsyncIterator[str]) -> AsyncIterator[bytes]:
    async for piece in pieces:
        yield piece.encode()


def _json(value: Json) -> Response:
    return JSONResponse(value, headers=NO_STORE)


def _refusal(sentence: str, status: int) -> Response:
    return JSONResponse({"error": sentence}, status, headers=NO_STORE)
