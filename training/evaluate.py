"""The exam: drawings from seeds that were never trained on, asked through the app's own engine or a server.

    python -m training.evaluate [--url http://127.0.0.1:8000/v1 --model demo-model]

Every kind of task has its row, with a 95 % Wilson interval. An answer is right if it states the same facts as
the true answer, sentence by sentence; the wording is free, and the background has a row of its own. `--json`
prints one JSON object as the last line.
"""

import argparse
import asyncio
import base64
import io
import json
import math
import random
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from training import dialogue, questions, wording
from training import phrases as ask
from training.dialogue import Profile, converse
from training.drawing import render
from training.wording import ORDINALS, Where
from training.world import COLOURS, SHAPES, Scene, some_scene

Message = dict[str, Any]
Ask = Callable[[list[Message]], Awaitable[str]]

KINDS = ("pale", "gradient", "noisy", "striped", "checkered")
PLACES = ("left", "right", "top", "bottom", "centre", "above", "below")
OTHER = ("yes", "no", "both", "photo", "text", "empty", "biggest", "smallest", "nothing", "same")


def data_url(scene: Scene, rng: random.Random) -> str:
    """The picture as an app may send it: as PNG or JPEG, some of them enlarged before."""
    picture, file = render(scene), io.BytesIO()
    if rng.random() < 0.3:
        grow = rng.uniform(1.5, 4)
        picture = picture.resize(
            (round(picture.width * grow), round(picture.height * grow)), Image.Resampling.LANCZOS
        )
    kind = rng.choice(("png", "jpeg"))
    picture.save(file, kind, **({"quality": rng.randint(75, 92)} if kind == "jpeg" else {}))
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"


def user(text: str, scenes: Sequence[Scene], rng: random.Random) -> Message:
    """A user message in OpenAI's form."""
    images = [{"type": "image_url", "image_url": {"url": data_url(s, rng)}} for s in scenes]
    return {"role": "user", "content": [*images, *([{"type": "text", "text": text}] if text else [])]}


def facts(sentence: str) -> Counter[str]:
    """What a sentence states: "two red stars on a white background" -> red star x 2, white background."""
    singular = {wording.plural(s): s for s in SHAPES} | {s: s for s in SHAPES}
    known = {
        *COLOURS,
        *KINDS,
        *PLACES,
        *OTHER,
        *ORDINALS,
        *wording.NUMBERS,
        *singular,
        "background",
    }
    words = [w for w in re.findall(r"[a-z]+", sentence.lower()) if w in known]
    found: Counter[str] = Counter()
    i = 0
    while i < len(words):
        times = wording.NUMBERS.index(words[i]) if words[i] in wording.NUMBERS else 0
        at = i + 1 if times else i
        colour = words[at] if at < len(words) and words[at] in COLOURS else ""
        noun = words[at + bool(colour)] if at + bool(colour) < len(words) else ""
        if noun in singular and (colour or times):
            found[f"{colour} {singular[noun]}".strip()] += max(1, times)
            i = at + bool(colour) + 1
        elif (
            i + 1 < len(words) and words[i + 1] == "background" and (words[i] in COLOURS or words[i] in KINDS)
        ):
            found[f"{words[i]} background"] += 1
            i += 2
        else:
            found[singular.get(words[i], words[i])] += 1
            i += 1
    return found


def states(text: str) -> list[Counter[str]]:
    """Facts of each sentence or line that has any."""
    return [f for s in re.split(r"[.\n]", text) if (f := facts(s))]


def same(answer: str, truth: str) -> bool:
    """The same facts in each sentence."""
    return states(answer) == states(truth)


def same_things(answer: str, truth: str) -> bool:
    """The same things in each sentence; what is said of the background doesn't count."""
    bare = [re.sub(r"on an? \w+ background", "", text) for text in (answer, truth)]
    return same(*bare)


def same_detail(answer: str, truth: str) -> bool:
    """The same facts, but for a last sentence on which thing is the biggest."""
    plain = [[f for f in states(text) if "biggest" not in f] for text in (answer, truth)]
    return plain[0] == plain[1]


def covers(answer: str, truth: str) -> bool:
    """At least the facts of the truth, anywhere in the answer."""
    return sum(states(answer), Counter()) >= sum(states(truth), Counter()) - Counter(
        ("one", "two", "three", "four", "five")
    )


@dataclass(frozen=True)
class Case:
    """Messages that are sent one after another; the answer to the last one is judged."""

    task: str
    seed: int
    messages: tuple[Message, ...]
    truth: str
    right: Callable[[str, str], bool] = same


def _drawing(rng: random.Random, *counts: int) -> Scene:
    return some_scene(rng, count=rng.choice(counts or (1, 2, 3)), kind="drawing")


Built = tuple[list[Message], str] | None  # None where a scene cannot answer the question: draw another


def _one_question(question: wording.Ask, *counts: int) -> Callable[[random.Random], Built]:
    def build(rng: random.Random) -> Built:
        scene = _drawing(rng, *counts)
        asked = question(rng, scene, Where(rng.choice(ask.NOUNS)))
        return asked and ([user(asked.question, [scene], rng)], asked.answer)

    return build


def _which(rng: random.Random) -> Built:
    scenes = [_drawing(rng) for _ in range(rng.choice((2, 2, 3)))]
    asked = dialogue.which(rng, scenes, "image")
    return asked and ([user(asked.question, scenes, rng)], asked.answer)


def _several(rng: random.Random) -> Built:
    scenes = [_drawing(rng) for _ in range(rng.choice((2, 2, 3)))]
    asked = dialogue.all_of(rng, scenes, "image")
    return [user(asked.question, scenes, rng)], asked.answer


def _compare(rng: random.Random) -> Built:
    scenes = [_drawing(rng, 1, 2) for _ in range(2)]
    asked = dialogue.compare(rng, scenes, "image")
    return asked and ([user(asked.question, scenes, rng)], asked.answer)


def _earlier(rng: random.Random) -> Built:
    """Two or three pictures in turn, then a question about one that is not the last."""
    scenes = [_drawing(rng) for _ in range(rng.choice((2, 3)))]
    index = rng.randrange(len(scenes) - 1)
    where = Where("picture", f"in the {ORDINALS[index]} picture", f"the {ORDINALS[index]} picture")
    question = rng.choice(
        (questions.colour_of, questions.colour_of, questions.shape_of, questions.count, questions.describe)
    )
    if (asked := question(rng, scenes[index], where)) is None:
        return None
    shown = [
        user(rng.choice(("Describe this picture.", "What do you see?", "And this one?")), [s], rng)
        for s in scenes
    ]
    return [*shown, {"role": "user", "content": asked.question}], asked.answer


def _no_text(rng: random.Random) -> Built:
    scene = _drawing(rng)
    return [user("", [scene], rng)], f"The image {wording.shows(scene)}"


def _unseen(rng: random.Random) -> Built:
    scene, kind = _drawing(rng), rng.randrange(3)
    if kind == 0:
        return [
            user(rng.choice(ask.PATTERNS["exam_describe"]), [scene], rng)
        ], f"The image shows {wording.join(wording.named(scene.things))}."
    if kind == 1:
        shape = rng.choice(scene.things).shape
        truth = questions.colour_answer(scene, shape)
        return [user(rng.choice(ask.PATTERNS["exam_colour"]).format(shape=shape), [scene], rng)], truth
    return [user(rng.choice(ask.PATTERNS["exam_count"]), [scene], rng)], questions.count_answer(scene)


def _not_a_drawing(rng: random.Random) -> Built:
    scene = some_scene(rng, kind=rng.choice(("photo", "photo", "text")))
    asked = questions.describe(rng, scene, Where("image"))
    return [user(asked.question, [scene], rng)], asked.answer


def _small_talk(rng: random.Random) -> Built:
    asked = dialogue.small_talk(rng)
    return [{"role": "user", "content": asked.question}], asked.answer


def _long(rng: random.Random) -> Built:
    """A chat with up to twelve pictures; what was answered before is given."""
    talk = converse(rng, Profile((25, 25), 12, 0.5, side=256, share=0))
    messages: list[Message] = [{"role": "system", "content": talk.system}] if talk.system else []
    for turn in talk.turns:
        messages += [
            user(turn.text, turn.images, rng) if turn.images else {"role": "user", "content": turn.text}
        ]
        messages += [{"role": "assistant", "content": turn.answer}]
    return messages[:-1], talk.turns[-1].answer


Build = Callable[[random.Random], Built]
TASKS: dict[str, tuple[Build, int, Callable[[str, str], bool]]] = {
    "one shape": (_one_question(questions.describe, 1), 250, same_things),
    "two or three shapes, all right": (_one_question(questions.describe, 2, 3), 250, same_things),
    "four or five shapes, all right": (_one_question(questions.describe, 4, 5), 100, same_things),
    "which of two or three pictures": (_which, 200, same),
    "earlier picture of the chat": (_earlier, 200, same),
    "colour of a shape": (_one_question(questions.colour_of), 200, same),
    "shape of a colour": (_one_question(questions.shape_of), 100, same),
    "how many": (_one_question(questions.count, 1, 2, 3, 4, 5), 100, same),
    "yes or no": (_one_question(questions.exists), 100, same),
    "where": (_one_question(questions.where_is), 100, same),
    "background": (_one_question(questions.ground), 60, same),
    "describe in detail": (_one_question(questions.detail), 100, same_detail),
    "list or table": (_one_question(questions.listing), 50, same),
    "two or three pictures described": (_several, 100, same_things),
    "two pictures compared": (_compare, 100, same),
    "picture without a word": (_no_text, 50, same_things),
    "phrasings never trained on": (_unseen, 150, covers),
    "photo or text: says so": (_not_a_drawing, 60, same),
    "greetings and the unknown": (_small_talk, 100, lambda answer, truth: answer.strip() == truth),
    "chat of 25 turns": (_long, 40, same),
}


def cases(share: float = 1.0) -> list[Case]:
    """The exam, or a share of each task. Its random worlds are named "exam/...", unlike those of training."""
    made = []
    for task, (build, count, right) in TASKS.items():
        for seed in range(max(1, round(count * share))):
            rng = random.Random(f"exam/{task}/{seed}")
            while (built := build(rng)) is None:
                pass
            messages, truth = built
            made.append(Case(task, seed, tuple(messages), truth, right))
    return made


async def sit(case: Case, ask_model: Ask) -> str:
    """Send the messages; where an answer is missing between two user messages, the model gives it."""
    history: list[Message] = []
    for message, following in zip(case.messages, [*case.messages[1:], None], strict=True):
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
        share = self.right / self.total
        return f"| {self.task} | {self.right}/{self.total} | {share:.1%} | {low:.1%}-{high:.1%} |"

    def values(self) -> dict[str, Any]:
        """For --json."""
        return {
            "task": self.task,
            "right": self.right,
            "total": self.total,
            "interval": wilson(self.right, self.total),
        }


async def examine(ask_model: Ask, share: float = 1.0, at_once: int = 8, show: int = 0) -> list[Row]:
    """Sit the exam; the first row is the 500 drawings of the first two tasks together."""
    gate, shown = asyncio.Semaphore(at_once), 0
    results: dict[str, list[bool]] = {task: [] for task in TASKS}

    async def one(case: Case) -> tuple[Case, str]:
        async with gate:
            return case, await sit(case, ask_model)

    for done in asyncio.as_completed([one(case) for case in cases(share)]):
        case, answer = await done
        results[case.task].append(ok := case.right(answer, case.truth))
        if not ok and shown < show:
            shown += 1
            question = case.messages[-1]["content"]
            words = (
                question
                if isinstance(question, str)
                else " ".join(p.get("text", "[picture]") for p in question)
            )
            print(
                f"{case.task} {case.seed}: {words!r}\n  true  {case.truth!r}\n  given {answer!r}", flush=True
            )
    rows = [Row(task, sum(oks), len(oks)) for task, oks in results.items()]
    drawings = Row(
        "drawings with one to three shapes", rows[0].right + rows[1].right, rows[0].total + rows[1].total
    )
    return [drawings, *rows]


def openai_ask(url: str, model: str) -> Ask:
    """Ask an OpenAI-compatible server, greedily; ``training.engine`` has the other way, the app's own."""
    from openai import AsyncOpenAI  # noqa: PLC0415 (the unit tests need no client)

    client = AsyncOpenAI(base_url=url, api_key="-", timeout=600)

    async def ask_model(messages: list[Message]) -> str:
        reply = await client.chat.completions.create(
            model=model,
            messages=messages,
            temperature=0,
            max_tokens=200,  # type: ignore[arg-type]
        )
        return reply.choices[0].message.content or ""

    return ask_model


async def _examine(given: argparse.Namespace) -> "list[Row]":
    if given.url:
        return await examine(openai_ask(given.url, given.model), given.share, show=given.show)
    from training.engine import app_engine  # noqa: PLC0415 (needs vLLM)

    async with app_engine() as ask_model:
        return await examine(ask_model, given.share, show=given.show)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--url", help="a server; without it the app's own engine, in this process")
    parser.add_argument("--model", default="demo-model")
    parser.add_argument("--share", type=float, default=1.0, help="of each task's cases")
    parser.add_argument("--show", type=int, default=0, help="print so many wrong answers")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--write", type=Path, help="a Markdown file whose table is replaced by the result")
    given = parser.parse_args()
    rows = asyncio.run(_examine(given))
    table = "\n".join(
        [
            "| task | right | share | 95 % interval |",
            "| --- | --- | --- | --- |",
            *(row.text() for row in rows),
        ]
    )
    print(table)
    if given.write:
        text = given.write.read_text(encoding="utf-8")
        text = re.sub(r"\| task \|.*?\n\n", lambda _: f"{table}\n\n", text, count=1, flags=re.DOTALL)
        given.write.write_text(text, encoding="utf-8")
    if given.json:
        print(json.dumps({"rows": [row.values() for row in rows]}))


if __name__ == "__main__":
    main()
