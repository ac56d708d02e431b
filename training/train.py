"""Training: one process with the model, the others make conversations.

    python -m training.train --minutes 9                           a first leg on one GPU
    python -m training.train --minutes 9 --resume training/build --schedule 0.5 1 --seed 1      a second one
    torchrun --nproc-per-node 2 -m training.train --minutes 9      on two GPUs, each with batches of its own
    python -m training.train --smoke                               a few steps of a tiny model, on any machine

Batches come from worker processes. Where the model is faster than they are, it repeats recent batches in
random order; each is seen a few times at most. log.jsonl beside the checkpoint gets a line for every hundred
steps: the loss of fresh and of repeated batches apart, the rate, the leg's seed and schedule.
"""

import argparse
import json
import math
import os
import random
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from training import checkpoint
from training.bank import Stock, training_stock
from training.data import Batch, batches
from training.model import Block, ModelArgs, Pixtral, VisionArgs
from training.optim import optimisers
from training.pack import FOLDER
from training.tokenizer import BUILD, Codec

Tensors = dict[str, torch.Tensor]
AGREE_STEPS = 20  # from one look at the clock to the next


@dataclass(frozen=True)
class Plan:
    """What a leg does. It ends at `steps` or after `minutes`, whichever is first.

    `schedule` is the part of the whole training that this leg is, as shares of the learning rate's cosine.
    """

    steps: int = 1_000_000
    minutes: float = 9.0
    rate: float = 3.5e-3  # of both optimisers at its peak
    warmup: int = 100  # steps in which the rate rises: not a share of the clock, which compiling takes
    workers: int = max(1, (os.cpu_count() or 2) - 1)
    scale: float = 1.0  # of the number of conversations that a worker makes at a time
    repeats: int = 2  # how often a batch is used at most
    kept: int = 100  # batches that can be repeated
    seed: int = 0  # no two legs may share one: it is also the world's
    schedule: tuple[float, float] = (0.0, 1.0)
    longest: int = 4096  # tokens of a conversation


@dataclass(frozen=True)
class Group:
    """The processes that train together, one for each GPU; each has batches of its own."""

    rank: int = 0
    size: int = 1

    def averaged(self, gradients: list[torch.Tensor]) -> None:
        """Put the mean over all processes in the place of the gradients."""
        if self.size == 1:
            return
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        dist.all_reduce(flat)
        parts = (flat / self.size).split([gradient.numel() for gradient in gradients])
        torch._foreach_copy_(gradients, [p.view_as(g) for p, g in zip(parts, gradients, strict=True)])

    def agreed(self, value: float, device: torch.device) -> float:
        """The first process's value: clocks differ, and all have to stop at the same step."""
        if self.size == 1:
            return value
        first = torch.tensor([value], device=device)
        dist.broadcast(first, src=0)
        return float(first)


class Stream(IterableDataset[Tensors]):
    """Batches of the "train" world, each worker with seeds of its own."""

    def __init__(self, codec: Path, stock: Stock, plan: Plan, group: Group) -> None:
        self.codec, self.stock, self.plan, self.group = codec, stock, plan, group

    def __iter__(self) -> Iterator[Tensors]:
        info = get_worker_info()
        worker, workers = (info.id, info.num_workers) if info else (0, 1)
        torch.set_num_threads(1 if info else torch.get_num_threads())
        plan, group = self.plan, self.group
        made: Iterator[Batch] = batches(
            Codec(self.codec), self.stock, group.rank * workers + worker, group.size * workers,
            plan.scale, plan.longest, plan.seed,
        )  # fmt: skip
        for batch in made:
            yield {name: torch.from_numpy(array) for name, array in batch.items()}


def fresh_or_repeated(
    loader: DataLoader[Tensors], plan: Plan, device: torch.device
) -> Iterator[tuple[Tensors, bool]]:
    """Fresh batches (True), each followed by repeats of earlier ones (False); all live on the device."""
    rng, kept = random.Random(plan.seed), []
    for batch in loader:
        kept.append({name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()})
        yield kept[-1], True
        for _ in range(plan.repeats - 1):
            yield rng.choice(kept), False
        if len(kept) > plan.kept:
            kept.pop(rng.randrange(len(kept)))


def whole_at(share: float, plan: Plan) -> float:
    """How far the whole training is after a share of the leg."""
    start, end = plan.schedule
    return min(1.0, start + share * (end - start))


def rate_at(step: int, share: float, plan: Plan) -> float:
    """The learning rate: a rise in the leg's first steps, and its part of a cosine down to nothing."""
    rise = min(1.0, (step + 1) / plan.warmup)
    return plan.rate * rise * 0.5 * (1 + math.cos(math.pi * whole_at(share, plan)))


def all_seeds(plan: Plan, before: Mapping[str, Any]) -> list[int]:
    """The seeds of all legs, this one's last.

    Raises:
        ValueError: an earlier leg had this one's seed, and so its very conversations.
    """
    used: list[int] = before.get("seeds", [])
    if plan.seed in used:
        raise ValueError(f"the checkpoint was trained with seed {plan.seed} before: give another with --seed")
    return [*used, plan.seed]


def mean_losses(losses: Sequence[tuple[torch.Tensor, bool]]) -> dict[str, float]:
    """The mean of all, and those of fresh and of repeated batches, as far as there were any."""
    told = {}
    for name, kinds in (("loss", (True, False)), ("loss_fresh", (True,)), ("loss_repeated", (False,))):
        chosen = [loss for loss, fresh in losses if fresh in kinds]
        if chosen:
            told[name] = round(float(torch.stack(chosen).mean()), 4)
    return told


def loss_of(model: Pixtral, batch: Tensors) -> torch.Tensor:
    """Cross entropy of the learned tokens by their weights."""
    at, weights = batch["learned"], batch["weights"]
    logits = model(batch["tokens"], batch["patches"].float(), batch["grids"], batch["cells"], at)
    losses = F.cross_entropy(logits.float(), batch["tokens"].flatten()[at + 1], reduction="none")
    return (losses * weights).sum() / weights.sum()


def train(
    args: ModelArgs,
    plan: Plan,
    codec: Path,
    stock: Stock,
    device: torch.device,
    out: Path,
    start: Path | None = None,
    group: Group = Group(),
) -> Pixtral:
    """Train a leg, from scratch or from a checkpoint; with checkpoints in `out`."""  # fmt: skip
    torch.manual_seed(plan.seed)
    model = Pixtral(args).to(device)
    steppers = optimisers(model, plan.rate)
    before = checkpoint.load(start, model, steppers) if start else {}
    seeds, momenta = all_seeds(plan, before), sum(len(stepper.state) for stepper in steppers)
    size = sum(p.numel() for p in model.parameters())
    print(f"{size:,} parameters on {device}, {momenta} momenta, {asdict(group)}; {asdict(plan)}", flush=True)
    loader: DataLoader[Tensors] = DataLoader(
        Stream(codec, stock, plan, group), batch_size=None, num_workers=plan.workers,
        prefetch_factor=3 if plan.workers else None, pin_memory=device.type == "cuda",
        in_order=False,  # a worker that makes its next pool would hold up all the others
    )  # fmt: skip
    out.mkdir(parents=True, exist_ok=True)
    began = saved = asked = time.monotonic()
    pictures, steps = int(before.get("pictures", 0)), int(before.get("steps", 0))
    state = {"steps": steps, "pictures": pictures, "seeds": seeds}
    earlier, waited = pictures, 0.0
    losses: list[tuple[torch.Tensor, bool]] = []
    for step, (batch, fresh) in enumerate(fresh_or_repeated(loader, plan, device)):
        if step % AGREE_STEPS == 0 or plan.steps < AGREE_STEPS:
            seconds = time.monotonic() - began
            share = group.agreed(max(step / plan.steps, seconds / 60 / plan.minutes), device)
        if share >= 1:
            break
        waited += time.monotonic() - asked
        rate = rate_at(step, share, plan)
        for options in (options for stepper in steppers for options in stepper.param_groups):
            options["lr"] = rate
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            loss = loss_of(model, batch)
        loss.backward()
        group.averaged([p.grad for p in model.parameters() if p.grad is not None])
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for stepper in steppers:
            stepper.step()
        model.zero_grad(set_to_none=True)
        steps += 1
        pictures += len(batch["grids"]) * group.size
        state |= {"steps": steps, "pictures": pictures}
        losses.append((loss.detach(), fresh))
        if group.rank == 0 and (step % 100 == 99 or plan.steps < 100):
            seconds = time.monotonic() - began
            line = {
                "steps": steps, "seconds": round(seconds, 1), **mean_losses(losses), "pictures": pictures,
                "pictures_per_second": round((pictures - earlier) / seconds),
                "waiting": round(waited / seconds, 3), "rate": float(f"{rate:.4g}"),
                "whole": round(whole_at(share, plan), 4), "schedule": plan.schedule, "seed": plan.seed,
                "repeats": plan.repeats, "gpus": group.size,
            }  # fmt: skip
            print(json.dumps(line), flush=True)
            with (out / "log.jsonl").open("a") as log:
                log.write(json.dumps(line) + "\n")
            losses = []
        if group.rank == 0 and time.monotonic() - saved > 120:
            checkpoint.save(out, model, args.params(), steppers, state)
            saved = time.monotonic()
        asked = time.monotonic()
    if group.rank == 0:
        checkpoint.save(out, model, args.params(), steppers, state)
    return model


def tiny(args: ModelArgs) -> ModelArgs:
    """The same model, small enough for seconds on a CPU."""
    vision = VisionArgs(hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=2)
    return replace(args, dim=64, n_layers=2, hidden_dim=96, n_heads=2, n_kv_heads=1, vision_encoder=vision)


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
    parser.add_argument("--seed", type=int, default=Plan.seed)
    parser.add_argument(
        "--resume",
        type=Path,
        metavar="FOLDER",
        help="the folder of a checkpoint to go on from; with a new --seed",
    )
    parser.add_argument("--schedule", type=float, nargs=2, default=Plan.schedule, metavar=("FROM", "TO"))
    parser.add_argument("--vision", type=int, nargs=2, metavar=("WIDTH", "LAYERS"), help="for scaling runs")
    parser.add_argument("--text", type=int, nargs=2, metavar=("WIDTH", "LAYERS"), help="for scaling runs")
    parser.add_argument(
        "--compile", action="store_true", help="compile the blocks: half a minute, then faster"
    )
    parser.add_argument("--smoke", action="store_true", help="a few steps of a tiny model")
    parser.add_argument("--pack", type=Path, default=FOLDER)
    parser.add_argument("--tokenizer", type=Path, default=BUILD / "tekken.json")
    parser.add_argument("--out", type=Path, default=BUILD)
    given = parser.parse_args()
    os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")  # batches differ in size
    group = Group(int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1")))  # torchrun's
    device = torch.device("cpu")
    if torch.cuda.is_available():
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    if group.size > 1:
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    torch.set_float32_matmul_precision("high")
    args = ModelArgs(vocab_size=Codec(given.tokenizer).size)
    if given.vision:
        width, layers = given.vision
        vision = VisionArgs(
            hidden_size=width, intermediate_size=width * 5 // 2, num_hidden_layers=layers,
            num_attention_heads=width // 32,
        )  # fmt: skip
        args = replace(args, vision_encoder=vision)
    if given.text:
        width, layers = given.text
        args = replace(args, dim=width, n_layers=layers, hidden_dim=2 * width, n_heads=width // 32)
    plan = Plan(
        steps=given.steps, minutes=given.minutes, rate=given.rate, workers=given.workers, scale=given.scale,
        repeats=given.repeats, seed=given.seed, schedule=tuple(given.schedule),
    )  # fmt: skip
    if given.smoke:
        steps = given.steps if given.steps != Plan.steps else 3
        args, plan = tiny(args), replace(plan, steps=steps, workers=0, scale=0.02, repeats=1)
    if given.compile:
        Block.forward = torch.compile(Block.forward, dynamic=True)  # type: ignore[method-assign]
    stock = training_stock(given.pack)
    if plan.workers and sys.platform != "win32":
        stock.bank.warm()  # before the workers are forked: they share what is decoded
    train(args, plan, given.tokenizer, stock, device, given.out, given.resume, group)
    if group.size > 1:
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
