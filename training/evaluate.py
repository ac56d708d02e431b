"""The exam: what training never saw, asked through the app's own engine or a server.

    python -m training.evaluate [--folder training/build/model | --url http://127.0.0.1:8000/v1] --cases 1000

Every task has its row, with a 95 % Wilson interval and the floor that it should reach. `--json` prints one
JSON object as the last line.
"""

import argparse
import asyncio
import json
import math
import re
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.exam import TASKS, Case, Message, case
from training.exam_stocks import Stocks, exam_stocks
from training.pack import FOLDER

Ask = Callable[[list[Message]], Awaitable[str]]


def cases(stocks: Stocks, number: int, tasks: list[str] | None = None) -> Iterator[Case]:
    """`number` cases of each task (of some as many as there are), made when they are needed."""
    for task in tasks or TASKS:
        for seed in range(min(number, TASKS[task].most)):
            yield case(task, seed, stocks)


async def sit(one: Case, ask_model: Ask) -> str:
    """Send the messages; where an answer is missing between two user messages, the model gives it."""
    history: list[Message] = []
    for message, following in zip(one.messages, [*one.messages[1:], None], strict=True):
        history.append(message)
        if message["role"] == "user" and (following is None or following["role"] == "user"):
            history.append({"role": "assistant", "content": await ask_model(history) or "."})
    return str(history[-1]["content"])


def wilson(right: int, total: int, z: float = 1.96) -> tuple[float, float]:
    """95 % confidence interval of a share."""
    if not total:
        return 0.0, 1.0
    p, d = right / total, 1 + z * z / total
    middle = (p + z * z / (2 * total)) / d
    half = z * math.sqrt(p * (1 - p) / total + z * z / (4 * total * total)) / d
    return max(0.0, middle - half), min(1.0, middle + half)


@dataclass(frozen=True)
class Row:
    """A line of the result."""

    task: str
    right: int
    total: int

    def text(self) -> str:
        """For the table."""
        low, high = wilson(self.right, self.total)
        share, floor = self.right / max(1, self.total), TASKS[self.task].floor
        return (
            f"| {self.task} | {self.right}/{self.total} | {share:.1%} | {low:.1%}-{high:.1%} | {floor:.0%} |"
        )

    def values(self) -> dict[str, Any]:
        """For --json."""
        return {
            "task": self.task,
            "right": self.right,
            "total": self.total,
            "share": self.right / max(1, self.total),
            "interval": wilson(self.right, self.total),
            "floor": TASKS[self.task].floor,
        }


HEAD = "| task | right | share | 95 % interval | floor |\n| --- | --- | --- | --- | --- |\n"


def table(rows: list[Row]) -> str:
    """The result in Markdown."""
    return HEAD + "\n".join(row.text() for row in rows)


async def examine(
    ask_model: Ask, asked: Iterator[Case], at_once: int = 8, show: int = 0, log: Path | None = None
) -> list[Row]:
    """Sit the exam, `at_once` cases at a time. `log` gets every answer, a line each."""
    results: dict[str, list[bool]] = {}
    shown = 0

    async def worker() -> None:
        nonlocal shown
        for one in asked:
            answer = await sit(one, ask_model)
            ok = one.right(answer)
            results.setdefault(one.task, []).append(ok)
            if log:
                line = {"task": one.task, "seed": one.seed, "question": _words(one), "truth": one.truth}
                with log.open("a", encoding="utf-8") as file:
                    file.write(json.dumps({**line, "answer": answer, "right": ok}, ensure_ascii=False) + "\n")
            if not ok and shown < show:
                shown += 1
                print(
                    f"{one.task} {one.seed}: {_words(one)!r}\n  true  {one.truth!r}\n  given {answer!r}",
                    flush=True,
                )

    await asyncio.gather(*(worker() for _ in range(at_once)))
    return [Row(task, sum(results[task]), len(results[task])) for task in TASKS if task in results]


def _words(one: Case) -> str:
    content = one.messages[-1]["content"]
    return content if isinstance(content, str) else " ".join(p.get("text", "[picture]") for p in content)


def openai_ask(url: str, model: str) -> Ask:
    """Ask an OpenAI-compatible server, greedily; ``training.engine`` has the other way, the app's own."""
    from openai import AsyncOpenAI  # noqa: PLC0415 (the unit tests need no client)

    client = AsyncOpenAI(base_url=url, api_key="-", timeout=600)

    async def ask_model(messages: list[Message]) -> str:
        reply = await client.chat.completions.create(
            model=model,
            messages=messages,  # type: ignore[arg-type]
            temperature=0,
            max_tokens=300,
        )
        return reply.choices[0].message.content or ""

    return ask_model


async def _examine(given: argparse.Namespace) -> list[Row]:
    asked = cases(exam_stocks(given.pack), given.cases, given.task)
    if given.url:
        return await examine(openai_ask(given.url, given.model), asked, show=given.show, log=given.log)
    from training.engine import app_engine  # noqa: PLC0415 (needs vLLM)

    async with app_engine(given.folder) as ask_model:
        return await examine(ask_model, asked, show=given.show, log=given.log)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--folder", type=Path, help="the model, for the app's own engine; else the shipped one"
    )
    parser.add_argument("--url", help="a server; without it the app's own engine, in this process")
    parser.add_argument("--model", default="demo-model", help="its name on the server")
    parser.add_argument("--cases", type=int, default=1000, help="of each task")
    parser.add_argument("--task", action="append", choices=list(TASKS), help="only this row; may be repeated")
    parser.add_argument("--show", type=int, default=0, help="print so many wrong answers")
    parser.add_argument("--log", type=Path, help="a file for every answer, a JSON object a line")
    parser.add_argument("--pack", type=Path, default=FOLDER)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--write", type=Path, help="a Markdown file whose table is replaced by the result")
    given = parser.parse_args()
    rows = asyncio.run(_examine(given))
    print(table(rows))
    if given.write:
        text = given.write.read_text(encoding="utf-8")
        text = re.sub(r"\| task \|.*?\n\n", lambda _: f"{table(rows)}\n\n", text, count=1, flags=re.DOTALL)
        given.write.write_text(text, encoding="utf-8")
    if given.json:
        print(json.dumps({"rows": [row.values() for row in rows]}))


if __name__ == "__main__":
    main()
