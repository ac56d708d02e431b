"""The files beside pictures: brought up to date with what a job has stored, after it is stored."""

from dataclasses import dataclass
from pathlib import Path

from backend.captioning import outputs
from backend.captioning.job_file import JobFile
from backend.captioning.job_tables import explained
from backend.captioning.values import JobSpec, RowState

ROWS_AT_ONCE = 200


@dataclass(frozen=True, slots=True)
class Sidecars:
    """Which files to write for each picture, and where: beside it, or below ``out``."""

    kinds: tuple[str, ...] = ()
    out: Path | None = None


NONE = Sidecars()


def write_sidecars(job: JobFile, spec: JobSpec, wanted: Sidecars) -> None:
    """Bring all sidecars of a job up to date with what is stored.

    Raises:
        StoreError: the disk refuses.
    """
    while rows := job.unwritten(ROWS_AT_ONCE):
        with explained():
            for row, stem in rows:
                if row.state is RowState.DONE:
                    place = outputs.sidecar_place(row, stem, wanted.out)
                    outputs.write_sidecars(row, place, spec, wanted.kinds)
        before = [row for row, _ in rows]
        job.mark_written(before)
