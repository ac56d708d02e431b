"""Captions from the command line: a folder in, captions beside its pictures, and tables of all of them."""

import asyncio
import itertools
import tempfile
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from backend.asking import LOOK_EVERY_S, Printer, choose, in_other_words, own_engine
from backend.captioning import outputs, sources
from backend.captioning.cost import cost_of, told
from backend.captioning.fields import read_schema
from backend.captioning.intake import Intake
from backend.captioning.job_file import JobFile
from backend.captioning.job_tables import explained
from backend.captioning.presets import PRESETS, TEMPERATURE, find_preset
from backend.captioning.runner import Runner
from backend.captioning.sidecars import Sidecars
from backend.captioning.sole_runner import sole_runner
from backend.captioning.values import Counts, Existing, Found, JobSpec, JobState, RowState
from backend.catalogue.download import with_time
from backend.config import Settings
from backend.errors import ConfigError, InputError
from backend.fetch import Fetcher
from backend.picture_pool import PicturePool
from backend.router import Router
from backend.start import StartPlan
from backend.types import Detail, EngineState, ModelInfo, Sampling

JOB_NAME = "captions.job"
FORMATS = (*outputs.SIDECARS, *outputs.TABLES)
DEFAULT_FORMAT = "txt,csv"
FAILED, STOPPED = 3, 1  # the command's status: some pictures failed; it cannot go on
FAILURES_LISTED = 20
ADDED_AT_ONCE = 500
SAMPLE = 8  # pictures by which a dry run estimates
SERVER_PATIENCE_S = 3600.0  # with a server that is away
OWN_PATIENCE_S = 20.0  # with an engine of this process: it is started again once, or has failed for good


@dataclass(frozen=True, slots=True)
class Order:
    """What the command line asks for."""

    place: str
    preset: str | None = None
    prompt: str | None = None
    schema: Path | None = None
    trigger: str = ""
    language: str = ""
    out: Path | None = None
    formats: str = DEFAULT_FORMAT
    existing: Existing = Existing.SKIP
    column: str = ""
    sampling: Sampling = Sampling()  # noqa: RUF009 - frozen
    detail: Detail = Detail.AUTO
    resume: bool = False
    retry_failed: bool = False
    dry_run: bool = False


def read_spec(order: Order, system: str) -> JobSpec:
    """What is to be asked of each picture; the model is not known yet.

    Raises:
        ConfigError: it does not fit together.
    """
    if order.prompt is not None and order.preset is not None:
        raise ConfigError("There is a --preset and a --prompt.", "Give one of them.")
    default = "own" if order.prompt is not None else "fields" if order.schema else "sentence"
    preset_id = order.preset or default
    preset = find_preset(preset_id)
    if order.preset is not None and preset.id != order.preset:
        names = ", ".join(preset.id for preset in PRESETS)
        raise ConfigError(f"There is no preset “{order.preset}”.", f"There are: {names}.")
    prompt = order.prompt if order.prompt is not None else preset.prompt
    if not prompt.strip():
        raise ConfigError("The prompt is empty.", "Write what to ask of each picture.")
    if preset_id == "training" and not order.trigger:
        raise ConfigError("Training captions begin with a word of yours.", 'Give it: --trigger "sks dog".')
    if preset_id == "fields" and not order.schema:
        raise ConfigError("There are no fields to fill in.", "Name their file: --schema fields.json.")
    sampling = order.sampling
    if sampling.temperature is None:
        sampling = replace(sampling, temperature=TEMPERATURE)
    if sampling.max_tokens is None:
        sampling = replace(sampling, max_tokens=preset.max_tokens)
    return JobSpec(
        prompt=prompt,
        model="",
        preset=preset_id,
        system=system,
        sampling=sampling,
        language=order.language,
        schema=_schema(order.schema) if order.schema else "",
        trigger=order.trigger,
        existing=order.existing,
        detail=order.detail,
    )


def _schema(path: Path) -> str:
    try:
        return read_schema(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"The file “{path.name}” cannot be read.", "Check the path given with --schema."
        ) from error
    except InputError as error:
        raise ConfigError(error.what, error.action) from error


def read_formats(written: str) -> tuple[str, ...]:
    """``txt,csv`` and the like.

    Raises:
        ConfigError: one of them is unknown.
    """
    formats = tuple(dict.fromkeys(word.strip().lower() for word in written.split(",") if word.strip()))
    unknown = [name for name in formats if name not in FORMATS]
    if unknown or not formats:
        raise ConfigError(
            f"There is no format “{unknown[0] if unknown else written}”.", f"There are: {', '.join(FORMATS)}."
        )
    return formats


def folder_for(order: Order) -> tuple[Path, Path | None]:
    """Where the job and its tables lie; and where sidecars do, if not beside the pictures.

    What comes out of an archive, a table or a list has a folder of its own, named after it.
    """
    if order.out is not None:
        return order.out, order.out
    path = Path(order.place).expanduser()
    if path.is_dir():
        return path, None
    if path.suffix.lower() in sources.SUFFIXES and "://" not in order.place:
        return path.parent, None
    named = Path(sources.safe_name(path.stem) if "://" not in order.place else "captions")
    place = path.parent / f"{path.stem}-captions" if "://" not in order.place else named
    return place, place


async def run(settings: Settings, plan: StartPlan, order: Order, printer: Printer) -> int:
    """Caption what was ordered; the command's status.

    Raises:
        SightlineError: nothing could be begun, or the disk refuses.
    """
    formats, spec = read_formats(order.formats), read_spec(order, settings.system_prompt)
    folder, out = folder_for(order)
    if order.dry_run:
        return await _estimate(settings, plan, order, spec, printer)
    path = folder / JOB_NAME
    with explained():
        folder.mkdir(parents=True, exist_ok=True)
    with sole_runner(path), closing(_job(path, order, spec, printer)) as job:
        _add_all(job, order)
        if job.info().state is JobState.DRAFT:  # nothing of what lies here is this job's
            _set_aside(folder, formats, printer)
            job.set_state(JobState.PAUSED)
        if order.retry_failed:
            job.retry("failed")
        sidecars = Sidecars(tuple(name for name in formats if name in outputs.SIDECARS), out)
        try:
            if job.counts().pending:
                async with _runner(settings, plan, job, sidecars, printer) as runner:
                    await _watched(runner, job)
                    _note_cost(runner.model, job.counts(), printer)
            else:
                job.set_state(JobState.DONE)
        except asyncio.CancelledError:  # Ctrl-C
            job.set_state(JobState.PAUSED)
            printer.note(f"Stopped. {_told(job.counts())} Go on with the same command and --resume.")
            raise
        finally:
            _write_tables(job, folder, formats)
        return _end(job, printer)


def _job(path: Path, order: Order, spec: JobSpec, printer: Printer) -> JobFile:
    """The job that lies there, or a new one."""
    if not path.exists():
        if order.retry_failed:
            raise ConfigError(
                "There is no earlier run whose failures could be retried.", "Leave out --retry-failed."
            )
        return JobFile.create(path, spec)
    job = JobFile.open(path)
    counts, info = job.counts(), job.info()
    if order.resume or order.retry_failed:
        kept = replace(job.spec, model="")
        if kept != spec:
            printer.note("This goes on with what was asked when it began.")
        printer.note(f"Going on. {_told(counts)}")
        return job
    job.close()
    if info.state is not JobState.DONE:
        raise ConfigError(
            f"An unfinished run lies here. {_told(counts)}",
            f"Add --resume to go on with it, or delete “{path.name}” to begin anew.",
        )
    with explained():
        path.replace(path.with_name(f"{path.name}.old"))
    return JobFile.create(path, spec)


def _add_all(job: JobFile, order: Order) -> None:
    """Name the pictures, those that have come since the last run too."""
    found = sources.scan(order.place, column=order.column)
    for some in _in_portions(found):
        job.add(some)
    if not job.counts().total:
        raise ConfigError(f"There are no pictures in “{order.place}”.", "Check the path.")


def _in_portions(found: Iterator[Found]) -> Iterator[list[Found]]:
    while some := list(itertools.islice(found, ADDED_AT_ONCE)):
        yield some


@asynccontextmanager
async def _runner(
    settings: Settings,
    plan: StartPlan,
    job: JobFile,
    sidecars: Sidecars,
    printer: Printer,
    *,
    first: int | None = None,
) -> AsyncGenerator[Runner, None]:
    """Who works through the job, once the model is ready."""
    with closing(PicturePool(settings.image_limits, settings.decoder_limits)) as pictures:
        async with own_engine(plan.engine, settings, printer, pictures.pids) as engine:
            router = Router(engine, plan.servers, settings.idle_timeout_s, plan.corrections)
            try:
                wanted = settings.model or job.spec.model or None
                name = await choose(router, None if engine else wanted, printer)
                model = await _ready(router, name, printer)
                job.set_spec(replace(job.spec, model=model.name))
                intake = Intake(pictures, Fetcher(settings.fetch_limits), job.spec.detail)
                patience_s = SERVER_PATIENCE_S if engine is None else OWN_PATIENCE_S
                yield Runner(job, router, intake, model, sidecars, patience_s=patience_s, first=first)
            finally:
                await router.aclose()


async def _ready(router: Router, name: str, printer: Printer) -> ModelInfo:
    """The model once it is loaded, or has failed to: then the first request says why."""
    while (now := await router.capabilities_of(name)).state is EngineState.LOADING:
        printer.progress(f"Loading {name}: {with_time(now.stage, now.state_s)}")
        await asyncio.sleep(LOOK_EVERY_S)
    printer.progress("")
    return now.models[0]


async def _watched(runner: Runner, job: JobFile) -> None:
    """Work, with a bar on the terminal."""
    with _bar() as (bar, task):
        working = asyncio.create_task(runner.run())
        try:
            while not working.done():
                counts, speed = await asyncio.to_thread(job.counts), runner.speed
                failed = f", {counts.failed} failed" if counts.failed else ""
                cost = cost_of(runner.model, counts)
                costs = f", cost {told(cost.so_far)}" if cost else ""
                quick = f"{speed.pictures_per_minute:.0f} a minute, {speed.tokens_per_second:.0f} tokens/s"
                bar.update(
                    task,
                    total=counts.total,
                    completed=counts.total - counts.pending,
                    told=f"{runner.note or quick}{costs}{failed}",
                )
                await asyncio.wait({working}, timeout=LOOK_EVERY_S)
            counts = job.counts()
            bar.update(task, completed=counts.total - counts.pending)
        finally:
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)
        working.result()


@contextmanager
def _bar() -> Iterator[tuple[Progress, TaskID]]:
    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.fields[told]}"))
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        yield bar, bar.add_task("", told="")


def _set_aside(folder: Path, formats: tuple[str, ...], printer: Printer) -> None:
    """Keep the tables that lie where this job's will, whoever made them."""
    for path in (folder / outputs.TABLE_NAMES[name] for name in formats if name in outputs.TABLES):
        if not path.exists():
            continue
        names = (path.with_name(f"{path.name}.old{number or ''}") for number in itertools.count())
        old = next(name for name in names if not name.exists())
        with explained():
            path.replace(old)
        printer.note(f"The “{path.name}” that lay here is “{old.name}” now.")


def _write_tables(job: JobFile, folder: Path, formats: tuple[str, ...]) -> None:
    spec = job.spec
    with explained():
        for name in formats:
            if name in outputs.TABLES:
                pieces = outputs.table(name, job.all_rows(), spec)
                outputs.write_whole(folder / outputs.TABLE_NAMES[name], pieces)


def _end(job: JobFile, printer: Printer) -> int:
    """Say what has come of it; the command's status."""
    counts, info = job.counts(), job.info()
    printer.note(_told(counts))
    if counts.skipped and not counts.done:
        printer.note("To caption those that had a caption anew: --existing overwrite.")
    if info.state is not JobState.DONE:
        printer.note(f"{in_other_words(info.note)} Go on with the same command and --resume.".strip())
        return STOPPED
    if not counts.failed:
        return 0
    failed = (row for row in job.all_rows() if row.state is RowState.FAILED)
    for row in itertools.islice(failed, FAILURES_LISTED):
        printer.note(f"  {row.key}: {in_other_words(row.reason)}")
    if counts.failed > FAILURES_LISTED:
        printer.note(f"  … and {counts.failed - FAILURES_LISTED} more; the tables name all of them.")
    printer.note("Try these again with the same command and --retry-failed.")
    return FAILED


def _note_cost(model: ModelInfo, counts: Counts, printer: Printer) -> None:
    if (cost := cost_of(model, counts)) is not None:
        printer.note(f"Cost so far: about {told(cost.so_far)}, by the prices of --model-info.")


def _told(counts: Counts) -> str:
    parts = [f"{counts.done} of {counts.total} captioned"]
    parts += [f"{counts.skipped} had a caption"] if counts.skipped else []
    parts += [f"{counts.failed} failed"] if counts.failed else []
    parts += [f"{counts.pending} to do"] if counts.pending else []
    return f"{', '.join(parts)}."


async def _estimate(
    settings: Settings, plan: StartPlan, order: Order, spec: JobSpec, printer: Printer
) -> int:
    """Count the pictures, and estimate tokens and time by asking about a few; nothing is kept."""
    with (
        tempfile.TemporaryDirectory() as folder,
        closing(JobFile.create(Path(folder, JOB_NAME), spec)) as job,
    ):
        _add_all(job, order)
        before = job.counts()
        printer.note(
            f"{before.total} pictures, {before.skipped} of them with a caption: {before.pending} to do."
        )
        if not before.pending:
            return 0
        async with _runner(settings, plan, job, Sidecars(), printer, first=SAMPLE) as runner:
            started = time.monotonic()
            await runner.run()
            seconds = time.monotonic() - started
        counts, info = job.counts(), job.info()
        if not counts.done:
            printer.note(info.note or "None of the first pictures could be captioned.")
            return STOPPED
        share = before.pending / counts.done
        printer.note(
            f"About {counts.prompt_tokens * share:,.0f} tokens to read and "
            f"{counts.completion_tokens * share:,.0f} to write, and at most {_minutes(seconds * share)}, "
            f"by the first {counts.done}."
        )
        cost = cost_of(runner.model, counts)
        if cost is not None and cost.in_all is not None:
            printer.note(f"It would cost about {told(cost.in_all)}, by the prices of --model-info.")
    return 0


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
