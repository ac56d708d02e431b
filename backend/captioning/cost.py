"""What a job costs, where prices are known."""

from dataclasses import dataclass

from backend.captioning.values import Counts
from backend.types import ModelInfo

A_MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class Cost:
    """In the currency of the prices: so far, and of the whole job, where something is known of that."""

    so_far: float
    in_all: float | None


def cost_of(model: ModelInfo | None, counts: Counts) -> Cost | None:
    """What the captions so far cost, and what all will by these; ``None`` where no price is known."""
    if model is None or (model.price_in is None and model.price_out is None):
        return None
    tokens_in, tokens_out = counts.prompt_tokens, counts.completion_tokens
    so_far = (tokens_in * (model.price_in or 0) + tokens_out * (model.price_out or 0)) / A_MILLION
    in_all = so_far * (counts.done + counts.pending) / counts.done if counts.done else None
    return Cost(so_far, in_all)


def told(amount: float) -> str:
    """An amount with as many digits as say something: 12.30, 0.042."""
    if 0 < amount < 0.001:
        return "0.001"
    return f"{amount:,.2f}" if amount >= 0.1 or not amount else f"{amount:.3f}"
