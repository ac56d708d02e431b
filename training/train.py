"""Training: one process with the model, the others make conversations.

    python -m training.train --minutes 8          on one GPU
    python -m training.train --smoke              a few steps of a few conversations, on any machine

Batches come from worker processes. Where the model is faster than they are, it repeats recent batches in
random order; each is seen a few times at most.
"""

import argparse
import json
import math
import os
import random
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from training.data import FLOOR, STEP, Batch, batches
from training.model import Block, ModelArgs, Pixtral
from training.optim import optimisers
from training.tokenizer import MODEL, Codec

CHECKPOINT = MODEL.parent.parent / "training" / "checkpoint.pt"


@dataclass(frozen=True)
class Plan:
    """What a run does. It ends at `steps` or after `minutes`, whichever is first."""

    steps: int = 100_000
    minutes: float = 8.0
    rate: float = 2.5e-3  # of both optimisers at its peak
    warmup: float = 0.04  # share of the run in which the rate rises
    workers: int = max(1, (os.cpu_count() or 2) - 1)
    scale: float = 1.0  # of the number of conversations that a worker makes at a time
    repeats: int = 2  # how often a batch is used at most
    kept: int = 200  # batches that can be repeated
    seed: int = 0
    starters: int = 6  # rounds of each worker that show one picture at a time, before the mix


class Stream(IterableDataset[dict[str, torch.Tensor]]):
    """Batches of the "train" world, each worker with seeds of its own."""

    def __init__(self, codec_path: Path, plan: Plan, longest: int) -> None:
        self.codec_path, self.plan, self.longest = codec_path, plan, longest

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        info = get_worker_info()
        worker, workers = (info.id, info.num_workers) if info else (0, 1)
        torch.set_num_threads(1)
        made: Iterator[Batch] = batches(
            Codec(self.codec_path),
            worker,
            workers,
            self.plan.scale,
            self.longest,
            self.plan.seed,
            self.plan.starters,
        )
        for batch in made:
            yield {name: torch.from_numpy(array) for name, array in batch.items()}


def fresh_or_repeated(
    loader: DataLoader[dict[str, torch.Tensor]], plan: Plan, device: torch.device
) -> Iterator[dict[str, torch.Tensor]]:
    """Fresh batches, each followed by repeats of earlier ones; all of them live on the device."""
    rng, kept = random.Random(plan.seed), []
    for batch in loader:
        kept.append({name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()})
        yield kept[-1]
        for _ in range(plan.repeats - 1):
            yield rng.choice(kept)
        if len(kept) > plan.kept:
            kept.pop(rng.randrange(len(kept)))


def rate_at(share: float, plan: Plan) -> float:
    """The learning rate after a share of the run: a rise, then a cosine down to nothing."""
    if share < plan.warmup:
        return plan.rate * share / plan.warmup
    return plan.rate * 0.5 * (1 + math.cos(math.pi * min(1.0, (share - plan.warmup) / (1 - plan.warmup))))


def loss_of(model: Pixtral, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Mean cross entropy of the learned tokens."""
    at, levels = batch["learned"], batch["patches"].float() * STEP + FLOOR
    logits = model(batch["tokens"], levels, batch["grids"], batch["cells"], at)
    return F.cross_entropy(logits.float(), batch["tokens"].flatten()[at + 1])


def train(
    args: ModelArgs, plan: Plan, codec_path: Path, device: torch.device, out: Path, start: Path | None = None
) -> Pixtral:
    """Train, from scratch or from a checkpoint's weights; with a checkpoint now and then."""
    torch.manual_seed(plan.seed)
    model = Pixtral(args).to(device)
    if start:
        model.load_state_dict(torch.load(start, map_location=device, weights_only=True)["weights"])
    print(
        f"{sum(p.numel() for p in model.parameters()):,} parameters on {device}; {asdict(plan)}", flush=True
    )
    steppers = optimisers(model, plan.rate)
    stream = Stream(codec_path, plan, args.max_position_embeddings)
    loader: DataLoader[dict[str, torch.Tensor]] = DataLoader(
        stream, batch_size=None, num_workers=plan.workers, prefetch_factor=2 if plan.workers else None,
        pin_memory=device.type == "cuda",
    )  # fmt: skip
    began = saved = asked = time.monotonic()
    pictures, waited, losses = 0, 0.0, []
    for step, batch in enumerate(fresh_or_repeated(loader, plan, device)):
        share = max(step / plan.steps, (time.monotonic() - began) / 60 / plan.minutes)
        if share >= 1:
            break
        waited += time.monotonic() - asked
        for group in (group for stepper in steppers for group in stepper.param_groups):
            group["lr"] = rate_at(share, plan)
        with torch.autocast(device.type, torch.bfloat16):
            loss = loss_of(model, batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for stepper in steppers:
            stepper.step()
        model.zero_grad(set_to_none=True)
        pictures += len(batch["grids"])
        losses.append(loss.detach())
        if step % 100 == 99 or plan.steps < 100:
            mean = float(torch.stack(losses).mean())
            seconds = time.monotonic() - began
            speed = (
                f"{pictures / seconds:.0f} pictures/s, {waited / seconds:.0%} of the time waiting for them"
            )
            print(f"step {step + 1} {seconds:.0f} s loss {mean:.4f} {speed}", flush=True)
            losses = []
        if time.monotonic() - saved > 60:
            save(model, out)
            saved = time.monotonic()
        asked = time.monotonic()
    save(model, out)
    return model


def save(model: Pixtral, path: Path) -> None:
    """Weights in bfloat16, as exported, and what is needed to build the model."""
    weights = {name: p.detach().to("cpu", torch.bfloat16) for name, p in model.state_dict().items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"args": model.args.params(), "weights": weights}, path.with_suffix(".part"))
    path.with_suffix(".part").replace(path)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=Plan.minutes)
    parser.add_argument("--steps", type=int, default=Plan.steps)
    parser.add_argument("--rate", type=float, default=Plan.rate)
    parser.add_argument("--workers", type=int, default=Plan.workers)
    parser.add_argument("--repeats", type=int, default=Plan.repeats)
    parser.add_argument("--scale", type=float, default=Plan.scale)
    parser.add_argument("--start", type=Path, help="a checkpoint to go on from, with seeds not used before")
    parser.add_argument("--seed", type=int, default=Plan.seed)
    parser.add_argument(
        "--compile", action="store_true", help="compile the blocks: half a minute, then faster"
    )
    parser.add_argument("--smoke", action="store_true", help="3 steps of tiny batches")
    parser.add_argument("--out", type=Path, default=CHECKPOINT)
    given = parser.parse_args()
    os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")  # batches differ in size
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.set_float32_matmul_precision("high")
    tokenizer = MODEL / "tekken.json"
    size = json.loads(tokenizer.read_text())["config"]["default_vocab_size"]
    plan = Plan(
        steps=given.steps, minutes=given.minutes, rate=given.rate, workers=given.workers,
        repeats=given.repeats, scale=given.scale, seed=given.seed,
        starters=0 if given.start else Plan.starters,
    )  # fmt: skip
    if given.compile:
        Block.forward = torch.compile(Block.forward, dynamic=True)  # type: ignore[method-assign]
    if given.smoke:
        plan = Plan(steps=3, minutes=60, workers=0, scale=0.02, repeats=1)
    train(ModelArgs(vocab_size=size), plan, tokenizer, device, given.out, given.start)


if __name__ == "__main__":
    main()
