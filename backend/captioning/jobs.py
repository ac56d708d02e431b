"""The captioning jobs of everyone who comes to the page: each owner's in a folder of their own.

``folder/<owner>/<job>/`` holds the job's file and the pictures that were brought. A job belongs to the
server: it goes on when its page is closed, and after a restart.
"""

import asyncio
import logging
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from backend.captioning.cost import Cost, cost_of
from backend.captioning.intake import Intake
from backend.captioning.job_file import JobFile, Which
from backend.captioning.job_tables import explained
from backend.captioning.left import FILE, find_left, remove, settle
from backend.captioning.pace import Speed
from backend.captioning.previews import Previews
from backend.captioning.runner import Runner
from backend.captioning.sources import Roots, addresses, archive, safe_name, scan, unique
from backend.captioning.values import Counts, Existing, Found, JobInfo, JobSpec, JobState, Kind
from backend.errors import ClosingError, InputError, LimitError, NotFoundError, SightlineError
from backend.fetch import Fetcher
from backend.picture_pool import PicturePool
from backend.router import Router
from backend.types import ModelInfo

JOBS_PER_VISITOR = 5
RUNNING = 8  # jobs at the same time, of everybody
RUNNING_PER_ADDRESS = 2
ADDED_AT_ONCE = 500
MEMBERS_PER_PICTURE = 50  # that a ZIP may list, of any kind, for each picture that a job may have
_ID = re.compile(r"[A-Za-z0-9_-]{22}")
_OWNER = re.compile(r"[0-9a-f]{64}")
_DRAFT = JobSpec("", "", existing=Existing.BOTH)  # until it is said what is wanted

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Listed:
    """A job in the list of an owner's."""

    id: str
    info: JobInfo
    counts: Counts


@dataclass(slots=True)
class _Running:
    job: JobFile
    runner: Runner
    who: str  # takes the turns where pictures are decoded
    is_trial: bool  # of some pictures only
    task: asyncio.Task[None] | None = None
    again: bool = False  # something was retried meanwhile


class Jobs:
    """Lives on one event loop. ``visitors`` tells whether somebody chats, which comes first."""

    def __init__(
        self,
        folder: Path,
        router: Router,
        pictures: PicturePool,
        fetcher: Fetcher,
        *,
        visitors: Callable[[], bool] = lambda: False,
    ) -> None:
        self._folder = folder
        self._router = router
        self._pictures = pictures
        self._fetcher = fetcher
        self._visitors = visitors
        self.previews = Previews(self.opened, pictures, fetcher)
        self._running: dict[tuple[str, str], _Running] = {}
        self._adding = threading.Lock()
        self._creating = asyncio.Lock()
        self._deciding = asyncio.Lock()  # how a job stands that is not running, one says at a time
        self._has_resumed = False
        self._resuming: asyncio.Task[None] | None = None  # the loop does not hold it

    # A job as a whole.

    async def listed(self, owner: str) -> list[Listed]:
        """The owner's jobs, the newest first."""
        return await asyncio.to_thread(self._list, owner)

    async def create(self, owner: str, most_jobs: int | None = JOBS_PER_VISITOR) -> str:
        """A new draft; its id.

        Raises:
            LimitError: there are too many already.
        """
        async with self._creating:  # how many there are stays so until this one is there
            jobs = await self.listed(owner)
            if most_jobs is not None and len(jobs) >= most_jobs:
                raise LimitError(f"You have {len(jobs)} captioning jobs.", "Delete one, then begin another.")
            job_id = secrets.token_urlsafe(16)
            title = time.strftime("%Y-%m-%d %H:%M")
            path = self._place(owner, job_id) / FILE
            await asyncio.to_thread(lambda: JobFile.create(path, _DRAFT, title).close())
        return job_id

    @contextmanager
    def opened(self, owner: str, job_id: str) -> Iterator[JobFile]:
        """The owner's job, for a moment; blocks.

        Raises:
            NotFoundError: the owner has none of this id.
        """
        running = self._running.get((owner, job_id))
        if running is not None:
            yield running.job
            return
        job = JobFile.open(self._place(owner, job_id) / FILE)
        try:
            yield job
        finally:
            job.close()

    def progress(self, owner: str, job_id: str) -> tuple[Speed, str]:
        """How quick it is now, and what it waits for, if anything."""
        running = self._running.get((owner, job_id))
        return (running.runner.speed, running.runner.note) if running else (Speed(), "")

    def is_pausing(self, owner: str, job_id: str) -> bool:
        """Whether it only finishes what its model has begun."""
        running = self._running.get((owner, job_id))
        return running is not None and running.runner.is_pausing

    async def cost(self, model: str, counts: Counts) -> Cost | None:
        """What a job costs, where the prices of its model are known."""
        found = await self._router.find(model) if model else None
        return cost_of(found[1] if found else None, counts)

    def is_running(self, owner: str, job_id: str) -> bool:
        return (owner, job_id) in self._running

    def check_room(self, who: str, most: int | None = RUNNING_PER_ADDRESS) -> None:
        """Raises LimitError where too many jobs run for one more: ``most`` for this address, or all."""
        if most is not None and sum(running.who == who for running in self._running.values()) >= most:
            raise LimitError(
                f"{most} captioning jobs of your network are running, as many as may.",
                "Wait for the end of one, or pause it.",
            )
        if len(self._running) >= RUNNING:
            raise LimitError(
                f"{RUNNING} captioning jobs are running here, as many as may.", "Try again in some minutes."
            )

    async def start(
        self,
        owner: str,
        job_id: str,
        spec: JobSpec | None,
        first: int | None = None,
        *,
        who: str,
        most: int | None = RUNNING_PER_ADDRESS,
        is_left: bool = False,
    ) -> None:
        """Begin or go on; with another ``spec`` than before everything is asked anew.

        ``who``: the address that it is for. ``is_left``: only if it says still that it runs, as it did when
        the app ended.

        Raises:
            LimitError: it runs already, or too many others; it has no pictures, or its model is not offered.
        """
        if self.is_running(owner, job_id):
            raise LimitError("This job is running already.", "Pause it first.")
        self.check_room(who, most)  # before anything is asked anew
        job = await asyncio.to_thread(JobFile.open, self._place(owner, job_id) / FILE)
        try:
            if spec is not None:
                await asyncio.to_thread(job.begin, spec)
            model = await self._model(job)
            if not await asyncio.to_thread(lambda: job.counts().total):
                raise LimitError("There are no pictures yet.", "Add some first.")
            async with self._deciding:
                is_wanted = not is_left or (await asyncio.to_thread(job.info)).state is JobState.RUNNING
                if is_wanted and not self.is_running(owner, job_id):  # pressed twice it is
                    self.check_room(who, most)  # others may have begun meanwhile
                    running = _Running(job, self._runner(who, job, model, first), who, first is not None)
                    self._running[owner, job_id] = running
                    running.task = asyncio.create_task(self._work(owner, job_id, running))
                    return
        except BaseException:
            job.close()
            raise
        job.close()

    async def _work(self, owner: str, job_id: str, running: _Running) -> None:
        """Run the job to its end; once more where pictures were retried just before it."""
        try:
            await running.runner.run()
            while running.again:
                model = await self._model(running.job)
                if not running.again:  # paused meanwhile
                    break
                running.again = False
                running.runner = self._runner(running.who, running.job, model, None)
                await running.runner.run()
        except ClosingError:
            log.info("A captioning job goes on when the app does")
        except SightlineError as error:
            log.warning("A captioning job stopped: %s", error)
            with suppress(SightlineError):
                await asyncio.to_thread(running.job.set_state, JobState.PAUSED, str(error))
        finally:
            del self._running[owner, job_id]
            running.job.close()

    def _runner(self, who: str, job: JobFile, model: ModelInfo, first: int | None) -> Runner:
        intake = Intake(self._pictures, self._fetcher, job.spec.detail, for_people=True, who=who)
        return Runner(
            job,
            self._router,
            intake,
            model,
            visitors=self._visitors,
            share=lambda: len(self._running),
            thumbnails=True,
            first=first,
        )

    async def _model(self, job: JobFile) -> ModelInfo:
        found = await self._router.find(job.spec.model)
        if found is None:
            raise LimitError("The model of this job is not offered now.", "Choose another in the settings.")
        return found[1]

    async def pause(self, owner: str, job_id: str) -> None:
        """Begin nothing new; what is in flight is finished."""
        await self._settle_left(owner, job_id, JobState.PAUSED)  # it may not have gone on yet
        running = self._running.get((owner, job_id))
        if running is not None:
            running.again = False
            running.runner.pause()

    async def cancel(self, owner: str, job_id: str) -> None:
        """End it now; what is done stays."""
        async with self._deciding:
            await self._stop(owner, job_id)
            with self.opened(owner, job_id) as job:
                await asyncio.to_thread(job.set_state, JobState.CANCELLED)

    async def delete(self, owner: str, job_id: str) -> None:
        """Delete a job with all that belongs to it."""
        place = self._place(owner, job_id)
        await self._stop(owner, job_id)
        with self.opened(owner, job_id):
            pass  # it is there
        await asyncio.to_thread(remove, place)

    async def forget(self, owner: str) -> None:
        """Delete all jobs of an owner."""
        for whose, job_id in list(self._running):
            if whose == owner:
                await self._stop(owner, job_id)
        if _OWNER.fullmatch(owner):
            await asyncio.to_thread(remove, self._folder / owner)

    async def resume_at_start(self) -> None:
        """Go on with what ran when the app ended, as far as its models are there; returns at once."""
        self._resuming = asyncio.create_task(self._resume_left(at_start=True))

    async def resume_left(self) -> None:
        """Go on with the jobs that ran when the app ended, delete forgotten drafts; the first call only."""
        if not self._has_resumed:
            self._has_resumed = True
            await self._resume_left(at_start=False)

    async def _resume_left(self, *, at_start: bool) -> None:
        for owner, job_id, is_trial in await asyncio.to_thread(find_left, self._folder, self.opened):
            if is_trial:  # by itself it does not become more than that
                await self._settle_left(owner, job_id, JobState.DRAFT)
                continue
            try:
                await self.start(owner, job_id, None, who=f"captions {owner}", most=None, is_left=True)
            except SightlineError as error:
                if at_start or self.is_running(owner, job_id):  # somebody looks later, or was quicker
                    continue
                log.info("A captioning job waits: %s", error)
                await self._settle_left(owner, job_id, JobState.PAUSED, str(error))

    async def _settle_left(self, owner: str, job_id: str, state: JobState, note: str = "") -> None:
        """Say how a job stands that ran when the app ended; what was said of it since holds."""
        async with self._deciding:
            if not self.is_running(owner, job_id):
                with suppress(SightlineError), self.opened(owner, job_id) as job:
                    await asyncio.to_thread(settle, job, state, note)

    async def _stop(self, owner: str, job_id: str) -> None:
        running = self._running.get((owner, job_id))
        if running is not None and running.task is not None:
            await asyncio.sleep(0)  # cancelled before its first step it would never tidy up
            running.task.cancel()
            await asyncio.gather(running.task, return_exceptions=True)

    # What is in it. These block.

    def place_for(self, owner: str, job_id: str, name: str) -> Path:
        """Where a picture that is brought is to lie: an empty file, so that no other gets its name.

        Raises:
            NotFoundError, LimitError: there is no such job, or it takes no more.
        """
        with self.opened(owner, job_id) as job:
            _check_draft(job)
        folder = self._place(owner, job_id) / "pictures"
        with explained():
            folder.mkdir(mode=0o700, exist_ok=True)
            taken = {path.name.casefold() for path in folder.iterdir()}
            while True:
                path = folder / unique(safe_name(name), taken)
                with suppress(FileExistsError):  # another of this name came meanwhile
                    path.touch(0o600, exist_ok=False)
                    return path

    def add_file(self, owner: str, job_id: str, path: Path, most: int | None) -> int:
        """Add a picture, or those of a ZIP, that lies in the job's folder.

        Raises:
            LimitError, InputError: they are too many, or it is no ZIP.
        """
        if path.suffix.lower() == ".zip":
            members = None if most is None else most * MEMBERS_PER_PICTURE
            return self._add(owner, job_id, archive(path, members), most)
        return self._add(owner, job_id, iter([Found(path.name, Kind.FILE, str(path))]), most)

    def add_addresses(self, owner: str, job_id: str, text: str, most: int | None) -> int:
        """Add the pictures of web addresses."""
        return self._add(owner, job_id, addresses(text), most)

    def add_folder(self, owner: str, job_id: str, place: str, roots: Roots) -> int:
        """Add those of a folder, ZIP or table of this machine, as far as these may be read."""
        return self._add(owner, job_id, scan(place, roots), None)

    def _add(self, owner: str, job_id: str, found: Iterator[Found], most: int | None) -> int:
        some = list(islice(found, None if most is None else most + 1))
        if not some:
            raise InputError("There are no pictures in that.", "Add pictures, a ZIP of them, or addresses.")
        with self.opened(owner, job_id) as job, self._adding:  # what is taken stays so until these are in
            _check_draft(job)
            taken = job.keys()
            if most is not None and len(taken) + len(some) > most:
                raise LimitError(
                    f"A job may have {most} pictures, and these would be more.",
                    "Leave some out; whoever runs this app can allow more with --max-caption-pictures.",
                )
            pictures = [replace(one, key=unique(one.key, taken)) for one in some]
            return sum(job.add(portion) for portion in _portions(pictures))

    def retry(self, owner: str, job_id: str, which: Which) -> int:
        """Make pictures pending again; how many."""
        with self.opened(owner, job_id) as job:
            count = job.retry(which)
        running = self._running.get((owner, job_id))
        if count and running is not None and not running.is_trial:  # which would become the whole job
            running.again = True
        return count

    def has_begun(self, owner: str, job_id: str) -> bool:
        """Whether it is no draft any more, as it is before its start and between trials."""
        with self.opened(owner, job_id) as job:
            return job.info().state is not JobState.DRAFT

    def _place(self, owner: str, job_id: str) -> Path:
        if not (_OWNER.fullmatch(owner) and _ID.fullmatch(job_id)):
            raise NotFoundError(
                "This captioning job does not exist.", "It may have been deleted; reload the page."
            )
        return self._folder / owner / job_id

    def _list(self, owner: str) -> list[Listed]:
        jobs = []
        for path in (self._folder / owner).glob(f"*/{FILE}") if _OWNER.fullmatch(owner) else ():
            with suppress(SightlineError), self.opened(owner, path.parent.name) as job:
                jobs.append(Listed(path.parent.name, job.info(), job.counts()))
        return sorted(jobs, key=lambda job: job.info.created_at, reverse=True)


def _check_draft(job: JobFile) -> None:
    if job.info().state is not JobState.DRAFT:
        raise LimitError("This job has begun.", "Begin a new one for more pictures.")


def _portions(pictures: Sequence[Found]) -> Iterator[Sequence[Found]]:
    for start in range(0, len(pictures), ADDED_AT_ONCE):
        yield pictures[start : start + ADDED_AT_ONCE]
