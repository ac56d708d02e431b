"""The tokenizer: the words of the world's own sentences, in Mistral's tekken format.

    python -m training.tokenizer          writes training/build/tekken.json

`Codec` turns conversations into tokens with nothing but tiktoken, so that training needs no
mistral-common; tests check that both agree token for token.
"""

import argparse
import base64
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import regex
import tiktoken

from training.bank import Stock, training_stock
from training.dialogue import conversation
from training.pictograms import by_role
from training.wording import plural

BUILD = Path(__file__).parent / "build"
VOCABULARY = 4072  # of text, the 256 bytes included
SPECIAL = (
    "<unk>", "<s>", "</s>", "[INST]", "[/INST]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]", "[TOOL_RESULTS]",
    "[/TOOL_RESULTS]", "[TOOL_CALLS]", "[IMG]", "<pad>", "[IMG_BREAK]", "[IMG_END]", "[PREFIX]", "[MIDDLE]",
    "[SUFFIX]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "[TOOL_CONTENT]",
)  # fmt: skip
SPECIAL_COUNT = 24  # a few to spare
PATTERN = r" ?\p{L}+|'[a-z]{1,2}(?!\p{L})|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
IMAGE = {"image_patch_size": 16, "max_image_size": 256, "spatial_merge_size": 2}


def learn_words(counts: Mapping[str, int], size: int) -> list[bytes]:
    """The vocabulary in order of rank: 256 bytes, then the most frequent pieces as they are.

    tiktoken looks for a whole piece before it merges anything, so that a word in the list is one token and
    any other word is spelled letter by letter: what is printed in a picture has to be read by letters anyway.
    Pieces of two bytes but for those with a space would serve as merges inside other words, so they stay out.
    """
    vocabulary = [bytes([b]) for b in range(256)]
    for piece in sorted(counts, key=lambda p: (-counts[p], p)):
        raw = piece.encode()
        if len(vocabulary) >= size:
            break
        if len(raw) > 2 or (len(raw) == 2 and raw[:1] == b" "):
            vocabulary.append(raw)
    return vocabulary


def tekken(vocabulary: Sequence[bytes]) -> dict[str, object]:
    """The content of tekken.json."""

    def entry(rank: int, token: bytes) -> dict[str, object]:
        try:
            text: str | None = token.decode()
        except UnicodeDecodeError:
            text = None
        return {"rank": rank, "token_bytes": base64.b64encode(token).decode(), "token_str": text}

    return {
        "config": {
            "pattern": PATTERN,
            "num_vocab_tokens": len(vocabulary),
            "default_vocab_size": len(vocabulary) + SPECIAL_COUNT,
            "default_num_special_tokens": SPECIAL_COUNT,
            "version": "v7",
        },
        "vocab": [entry(i, token) for i, token in enumerate(vocabulary)],
        "special_tokens": [
            {"rank": i, "token_str": name, "is_control": True} for i, name in enumerate(SPECIAL)
        ],
        "image": IMAGE,
        "version": 1,
        "type": "Tekken",
    }


class Codec:
    """Text to tokens and back, and the chat template of tokenizer version 7."""

    def __init__(self, path: Path) -> None:
        data = json.loads(path.read_text())
        ranks = {base64.b64decode(v["token_bytes"]): v["rank"] for v in data["vocab"]}
        self._model = tiktoken.Encoding(
            "tekken", pat_str=data["config"]["pattern"], mergeable_ranks=ranks, special_tokens={}
        )
        self._shift: int = data["config"]["default_num_special_tokens"]
        self.size: int = data["config"]["default_vocab_size"]
        self._special = {s["token_str"]: s["rank"] for s in data["special_tokens"]}
        self.bos, self.eos, self.pad = (self._special[s] for s in ("<s>", "</s>", "<pad>"))
        self.image, self.image_break, self.image_end = (
            self._special[s] for s in ("[IMG]", "[IMG_BREAK]", "[IMG_END]")
        )

    def text(self, text: str) -> list[int]:
        """Tokens of plain text."""
        return [t + self._shift for t in self._model.encode(text, disallowed_special=())]

    def decode(self, tokens: Sequence[int]) -> str:
        """Text of tokens, special ones left out."""
        return self._model.decode([t - self._shift for t in tokens if t >= self._shift])

    def start(self, system: str = "") -> list[int]:
        """Where a conversation begins."""
        if not system:
            return [self.bos]
        return [
            self.bos,
            self._special["[SYSTEM_PROMPT]"],
            *self.text(system),
            self._special["[/SYSTEM_PROMPT]"],
        ]

    def user(self, parts: Sequence[str | tuple[int, int]]) -> list[int]:
        """A user message; a picture is (columns, rows) of image tokens."""
        tokens = [self._special["[INST]"]]
        for part in parts:
            if isinstance(part, str):
                tokens += self.text(part)
            else:
                columns, rows = part
                tokens += ([self.image] * columns + [self.image_break]) * rows
                tokens[-1] = self.image_end
        return [*tokens, self._special["[/INST]"]]

    def assistant(self, answer: str) -> list[int]:
        """An answer and its end."""
        return [*self.text(answer), self.eos]


def corpus(stock: Stock, conversations: int) -> Counter[str]:
    """How often each piece of text occurs in the world's conversations; every name's words are there.

    What is printed in a picture stands between double quotes, and is left out.
    """
    counts: Counter[str] = Counter()

    def add(text: str, times: int = 1) -> None:
        for piece in regex.findall(PATTERN, re.sub(r'(says|words?|"text":) .*', r"\1", text)):
            counts[piece] += times

    for number in range(conversations):
        profile = ("single", "single", "several", "chat", "talk")[number % 5]
        talk = conversation("corpus", number, stock, profile)
        for text in (talk.system, *(t for turn in talk.turns for t in (turn.text, turn.answer))):
            add(text)
    for thing in by_role("known"):
        add(f" {thing.name}", 40)
        add(thing.name, 4)  # in JSON, without a space before it
        add(f" {plural(thing.name)}", 3)
    return counts


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=BUILD)
    parser.add_argument("--conversations", type=int, default=12_000)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    counts = corpus(training_stock(), given.conversations)
    text = json.dumps(tekken(learn_words(counts, VOCABULARY)), ensure_ascii=False, indent=0)
    (given.out / "tekken.json").write_text(text + "\n", encoding="utf-8")
    codec, example = Codec(given.out / "tekken.json"), "Describe this image in one sentence."
    print(f"{codec.size} tokens; {example!r} is {len(codec.text(example))} of them")


if __name__ == "__main__":
    main()
