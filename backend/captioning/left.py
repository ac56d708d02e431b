"""What an app that ended, however it did, has left of its captioning jobs."""

import secrets
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
GONE = ".deleted-"  # begins the name of what is being deleted


class Left(NamedTuple):
    """A job that says that it runs."""

    owner: str
    id: str
    is_trial: bool


def find_left(folder: Path, opened: Callable[[str, str], AbstractContextManager[JobFile]]) -> list[Left]:
    """The jobs that say that they run; deletes forgotten drafts, and what was not deleted whole. Blocks."""
    left = []
    for gone in (*folder.glob(f"{GONE}*"), *folder.glob(f"*/{GONE}*")):
        shutil.rmtree(gone, ignore_errors=True)
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
            remove(path.parent)
    return left


def remove(folder: Path) -> None:
    """Delete a folder in which others may be writing: under another name they find it no more. Blocks."""
    gone = folder.with_name(f"{GONE}{secrets.token_hex(8)}")
    with suppress(OSError):
        folder.rename(gone)
    for place in (gone, folder):
        shutil.rmtree(place, ignore_errors=True)


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
