"""From conversations to batches of arrays."""

import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from training.bank import Stock
from training.dialogue import PROFILES, Conversation, content, conversation
from training.drawing import preprocess, render
from training.tokenizer import Codec

UNIT = 32  # pixels of one image token's side: patch 16, merged 2 x 2
PATCH_VALUES = 3 * 16 * 16


def patches(pixels: np.ndarray) -> np.ndarray:
    """(rows * 32, columns * 32, 3) -> (rows * columns * 4, 768).

    Ordered so that four neighbours in the list are the 2 x 2 patches of one image token; the values of a
    patch are ordered (channel, y, x), as in the weight of the patch convolution.
    """
    rows, columns = pixels.shape[0] // UNIT, pixels.shape[1] // UNIT
    grid = pixels.reshape(rows, 2, 16, columns, 2, 16, 3).transpose(0, 3, 1, 4, 6, 2, 5)
    return grid.reshape(rows * columns * 4, PATCH_VALUES)


@dataclass(frozen=True)
class Encoded:
    """A conversation for the model: its tokens, how much each is learned, the pixels of each picture."""

    tokens: list[int]
    learned: list[float]
    pixels: list[np.ndarray]


def encode(talk: Conversation, codec: Codec, stock: Stock, longest: int) -> Encoded:
    """A conversation in mistral-common's v7 template, cut before the turn that overflows `longest` tokens.

    A token of an answer counts by one over the root of the answer's length: else the digits of boxes and the
    words of long lists would drown the names.
    """
    start = codec.start(talk.system)
    tokens, learned, pixels = list(start), [0.0] * len(start), []
    for turn in talk.turns:
        parts: list[str | tuple[int, int]] = []
        fresh: list[np.ndarray] = []
        for part in content(turn):
            if isinstance(part, str):
                parts.append(part)
            else:
                fresh.append(preprocess(render(part, stock)))
                parts.append((fresh[-1].shape[1] // UNIT, fresh[-1].shape[0] // UNIT))
        asked, answered = codec.user(parts), codec.assistant(turn.answer)
        if len(tokens) + len(asked) + len(answered) > longest:
            break
        tokens += asked + answered
        learned += [0.0] * len(asked) + [len(answered) ** -0.5] * len(answered)
        pixels += fresh
    return Encoded(tokens, learned, pixels)


Batch = dict[str, np.ndarray]


def collate(items: Sequence[Encoded], pad: int) -> Batch:
    """The arrays of a batch of B conversations with N pictures.

    tokens (B, T) int64; patches (N, P, 768) uint8; grids (N, 2) int64, rows and columns of image
    tokens; cells (M,) int64, places in the flat (N, P / 4) that hold an image token; learned (K,) int64,
    places in the flat tokens whose *next* token is learned; weights (K,) float32, how much.
    Places, not masks: a GPU need not stop to count.
    """
    width = max(len(item.tokens) for item in items)
    tokens = np.full((len(items), width), pad, np.int64)
    learned = np.zeros((len(items), width), np.float32)
    pictures = [p for item in items for p in item.pixels]
    most = max((p.shape[0] * p.shape[1] // 256 for p in pictures), default=16)
    most = (most + 15) // 16 * 16  # attention kernels like even sizes
    packed = np.zeros((max(len(pictures), 1), most, PATCH_VALUES), np.uint8)
    grids = np.ones((max(len(pictures), 1), 2), np.int64)
    for i, item in enumerate(items):
        tokens[i, : len(item.tokens)] = item.tokens
        learned[i, : len(item.tokens) - 1] = item.learned[1:]
    for i, pixels in enumerate(pictures):
        rows = patches(pixels)
        packed[i, : len(rows)] = rows
        grids[i] = pixels.shape[0] // UNIT, pixels.shape[1] // UNIT
    cells = np.flatnonzero(np.arange(most // 4) < grids.prod(1, keepdims=True))
    return {
        "tokens": tokens,
        "learned": np.flatnonzero(learned),
        "weights": learned[learned > 0],
        "patches": packed,
        "grids": grids,
        "cells": cells,
    }


POOL = 3600  # conversations that a worker sorts by length before it cuts them into batches
TEXT_BUDGET = 160_000  # tokens of a batch, padding included
PATCH_BUDGET = 240_000  # patches of a batch, padding included


def cut(items: Sequence[Encoded], longest_first: bool = False) -> Iterator[list[Encoded]]:
    """Batches of similar length that keep to the budgets; the last may be small."""
    batch: list[Encoded] = []
    pictures, largest = 0, 0
    for item in sorted(items, key=lambda i: len(i.tokens), reverse=longest_first):
        most = max([largest, *(p.shape[0] * p.shape[1] // 256 for p in item.pixels)])
        count = pictures + len(item.pixels)
        width = len((batch[0] if batch and longest_first else item).tokens)
        if batch and ((len(batch) + 1) * width > TEXT_BUDGET or count * most > PATCH_BUDGET):
            yield batch
            batch, count = [], len(item.pixels)
            most = max((p.shape[0] * p.shape[1] // 256 for p in item.pixels), default=0)
        batch.append(item)
        pictures, largest = count, most
    yield batch


def batches(
    codec: Codec,
    stock: Stock,
    worker: int,
    workers: int,
    scale: float = 1.0,
    longest: int = 4096,
    run: int = 0,
) -> Iterator[Batch]:
    """Endless batches of the "train" world; no two workers and no two runs share a seed."""
    rng = random.Random(f"order/{run}/{worker}")
    shares = [p.share for p in PROFILES.values()]
    seed = run * 1_000_000_000 + worker
    over: dict[str, list[Encoded]] = {name: [] for name in PROFILES}
    longest_first = dict.fromkeys(PROFILES, False)
    for _ in itertools.count():
        profile = rng.choices(tuple(PROFILES), shares)[0]
        items = over[profile]
        for _ in range(max(1, round(POOL / PROFILES[profile].turns[1] ** 0.5 * scale))):
            items.append(encode(conversation("train", seed, stock, profile), codec, stock, longest))
            seed += workers
        # What fills no batch waits for the next round. From alternate ends: if it were always the longest
        # that wait, the longest of all would wait for ever.
        groups = list(cut(items, longest_first[profile]))
        over[profile] = groups.pop() if len(groups) > 1 else []
        longest_first[profile] = not longest_first[profile]
        rng.shuffle(groups)
        for group in groups:
            yield collate(group, codec.pad)
