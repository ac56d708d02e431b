"""The values of a captioning job: frozen, and free of I/O."""

from dataclasses import dataclass
from enum import StrEnum

from backend.types import Detail, FinishReason, Sampling


class Existing(StrEnum):
    """What becomes of a caption that a picture has already."""

    SKIP = "skip"
    OVERWRITE = "overwrite"
    APPEND = "append"
    BOTH = "both"  # the old one stays where it is, and stands beside the new one in tables


class RowState(StrEnum):
    PENDING = "pending"
    DONE = "done"
    FAILED = "failed"
    SKIPPED = "skipped"  # it has a caption already


class JobState(StrEnum):
    DRAFT = "draft"  # pictures are being gathered
    RUNNING = "running"
    PAUSED = "paused"
    CANCELLED = "cancelled"
    DONE = "done"


class Kind(StrEnum):
    """How a picture is reached."""

    FILE = "file"
    MEMBER = "member"  # of a ZIP
    ADDRESS = "address"


@dataclass(frozen=True, slots=True)
class JobSpec:
    """What is asked of each picture. ``schema`` is a JSON schema as text; with it answers are fields.

    ``style`` says how an answer is tidied up (``presets.tidy``), ``trigger`` is the word that training
    captions begin with.
    """

    prompt: str
    model: str
    preset: str = ""
    system: str = ""
    sampling: Sampling = Sampling()  # noqa: RUF009 - frozen
    language: str = ""
    schema: str = ""
    trigger: str = ""
    existing: Existing = Existing.SKIP
    detail: Detail = Detail.AUTO


def stem_of(key: str) -> str:
    """What the sidecars of a picture are called, without their ending; a.jpg and a.png share one."""
    folder, slash, name = key.rpartition("/")
    return f"{folder}{slash}{name.rpartition('.')[0] or name}"


@dataclass(frozen=True, slots=True)
class Found:
    """A picture that a source has named. ``key`` is its name within the job, with ``/``, never leading out.

    ``place`` is a path or an address, ``member`` a name in the ZIP at that path; ``reason`` says why it
    cannot be taken, where that is known already.
    """

    key: str
    kind: Kind
    place: str
    member: str = ""
    existing: str = ""
    reason: str = ""

    @property
    def name(self) -> str:
        return self.key.rpartition("/")[2]


@dataclass(frozen=True, slots=True)
class Row:
    """A picture of a job and what became of it.

    ``text`` is what the model said, ``edited`` what a person made of it. ``revision`` grows with each change
    of any row of the job.
    """

    id: int
    key: str
    kind: Kind
    place: str
    member: str
    existing: str
    state: RowState
    text: str
    edited: str | None
    accepted: bool
    fields: str  # JSON
    reason: str
    tries: int
    sha256: str
    model: str
    prompt: str
    prompt_tokens: int | None
    completion_tokens: int | None
    duration_s: float | None
    finish_reason: str
    finished_at: float | None
    version: str
    revision: int

    @property
    def name(self) -> str:
        return self.key.rpartition("/")[2]

    @property
    def can_be_seen(self) -> bool:
        """Whether nothing is known that keeps it from being opened."""
        return bool(self.sha256) or not self.reason

    @property
    def caption(self) -> str:
        """What the picture's caption is now."""
        return self.text if self.edited is None else self.edited


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of asking about one picture. ``state`` is done or failed."""

    row_id: int
    state: RowState
    text: str = ""
    fields: str = ""
    reason: str = ""
    sha256: str = ""
    model: str = ""
    prompt: str = ""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    duration_s: float | None = None
    finish_reason: FinishReason | str = ""
    thumbnail: bytes = b""


@dataclass(frozen=True, slots=True)
class Counts:
    """How many rows of a job are in which state, and the tokens of those that are done."""

    pending: int = 0
    done: int = 0
    failed: int = 0
    skipped: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0

    @property
    def total(self) -> int:
        return self.pending + self.done + self.failed + self.skipped


@dataclass(frozen=True, slots=True)
class JobInfo:
    """How far a job is. ``note`` says why it waits or stopped, where there is a reason.

    ``is_trial``: what runs is a trial of a few pictures, after which it is a draft again.
    """

    state: JobState
    note: str
    created_at: float
    title: str
    is_trial: bool = False
