"""The tokenizer: byte-pair merges learned from the world's own sentences, in Mistral's tekken format.

    python -m training.tokenizer          writes assets/demo-model/tekken.json

`Codec` turns conversations into tokens with nothing but tiktoken, so that training needs no
mistral-common; tests check that both agree token for token.
"""

import base64
import json
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path

import regex
import tiktoken

MODEL = Path(__file__).resolve().parent.parent / "assets" / "demo-model"
VOCABULARY = 1536  # of text, the 256 bytes included
SPECIAL = (
    "<unk>", "<s>", "</s>", "[INST]", "[/INST]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]", "[TOOL_RESULTS]",
    "[/TOOL_RESULTS]", "[TOOL_CALLS]", "[IMG]", "<pad>", "[IMG_BREAK]", "[IMG_END]", "[PREFIX]", "[MIDDLE]",
    "[SUFFIX]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "[TOOL_CONTENT]",
)  # fmt: skip
SPECIAL_COUNT = 24  # a few to spare
PATTERN = r" ?\p{L}+|'[a-z]{1,2}(?!\p{L})|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
IMAGE = {"image_patch_size": 16, "max_image_size": 256, "spatial_merge_size": 2}


def learn_merges(texts: Iterable[str], size: int) -> list[bytes]:
    """The vocabulary in order of rank: 256 bytes, then the most frequent merges."""
    counts = Counter(piece for text in texts for piece in regex.findall(PATTERN, text))
    words = {piece: [bytes([b]) for b in piece.encode()] for piece, n in counts.items() if n > 3}
    pairs: Counter[tuple[bytes, bytes]] = Counter()
    found_in: defaultdict[tuple[bytes, bytes], set[str]] = defaultdict(set)
    for word, parts in words.items():
        for pair in pairwise(parts):
            pairs[pair] += counts[word]
            found_in[pair].add(word)
    vocabulary = [bytes([b]) for b in range(256)]
    known = set(vocabulary)
    while len(vocabulary) < size and pairs:
        best = max(pairs, key=lambda p: (pairs[p], p))
        if pairs[best] < 2:
            break
        merged = best[0] + best[1]
        if merged not in known:
            vocabulary.append(merged)
            known.add(merged)
        for word in sorted(found_in[best]):
            parts, joined = words[word], []
            for pair in pairwise(parts):
                pairs[pair] -= counts[word]
            i = 0
            while i < len(parts):
                hit = i + 1 < len(parts) and (parts[i], parts[i + 1]) == best
                joined.append(merged if hit else parts[i])
                i += 2 if hit else 1
            words[word] = joined
            for pair in pairwise(joined):
                pairs[pair] += counts[word]
                found_in[pair].add(word)
        del pairs[best]
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


def corpus(conversations: int = 30_000) -> Iterable[str]:
    """Sentences of the world's conversations."""
    from training.dialogue import PROFILES, converse  # noqa: PLC0415 (the rest needs no drawing)

    rng = random.Random("corpus")
    for _ in range(conversations):
        talk = converse(rng, PROFILES["short"])
        yield talk.system
        for turn in talk.turns:
            yield turn.text
            yield turn.answer


def main() -> None:
    """Write tekken.json."""
    MODEL.mkdir(parents=True, exist_ok=True)
    text = json.dumps(tekken(learn_merges(corpus(), VOCABULARY)), ensure_ascii=False, indent=0)
    (MODEL / "tekken.json").write_text(text + "\n", encoding="utf-8")
    codec, example = Codec(MODEL / "tekken.json"), "Describe this image in one sentence."
    print(f"{codec.size} tokens; {example!r} is {len(codec.text(example))} of them")


if __name__ == "__main__":
    main()
