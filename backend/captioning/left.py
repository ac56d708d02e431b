"""What an app that ended, however it did, has left of its captioning jobs."""

import shutil
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import NamedTuple

from backend.captioning.job_file import JobFile
from backend.captioning.values import JobInfo, JobState
from backend.errors import SightlineError

DRAFT_KEPT_S = 7 * 24 * 3600  # since it was made, or a file brought for it
FILE = "job.db"


class Left(NamedTuple):
    """A job that says that it runs."""

    owner: str
    id: str
    is_trial: bool


def find_left(folder: Path, opened: Callable[[str, str], AbstractContextManager[JobFile]]) -> list[Left]:
    """The jobs that say that they run; deletes forgotten drafts. Blocks."""
    left = []
    for path in folder.glob(f"*/*/{FILE}"):
        owner, job_id = path.parent.parent.name, path.parent.name
        info = None
        with suppress(SightlineError), opened(owner, job_id) as job:
            info = job.info()
        if info is None:
            continue
        if info.state is JobState.RUNNING:
            left.append(Left(owner, job_id, info.is_trial))
        elif info.state is JobState.DRAFT and _age_s(info, path.with_name("pictures")) > DRAFT_KEPT_S:
            shutil.rmtree(path.parent, ignore_errors=True)
    return left


def _age_s(info: JobInfo, pictures: Path) -> float:
    """How long ago a job was made, or a file brought for it. Its own file is written by looking at it."""
    changed = info.created_at
    with suppress(FileNotFoundError):
        changed = max(changed, pictures.stat().st_mtime)
    return time.time() - changed


def settle(job: JobFile, state: JobState, note: str) -> None:
    """Say how a job stands that says that it runs, and does not. Blocks."""
    if job.info().state is JobState.RUNNING:
        job.set_state(state, note)
