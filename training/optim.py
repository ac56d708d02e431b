"""Muon for the matrices, AdamW for the rest.

Muon (Keller Jordan, https://kellerjordan.github.io/posts/muon/) replaces a matrix's momentum by the nearest
orthogonal matrix, found by a few Newton-Schulz steps. From scratch this model leaves the plateau where every
shape looks alike after a tenth of the steps that AdamW needs.
"""

from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor, nn


def orthogonal(batch: Tensor, steps: int = 5) -> Tensor:
    """About U V^T of each matrix (n, rows, columns), rows <= columns, by quintic Newton-Schulz steps."""
    x = batch.bfloat16()
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(steps):
        product = x @ x.mT
        x = 3.4445 * x + (-4.7750 * product + 2.0315 * product @ product) @ x
    return x


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, orthogonalised; scaled to the size of an AdamW step at the same rate."""

    def __init__(
        self, weights: Iterable[nn.Parameter], lr: float, momentum: float = 0.95, decay: float = 0.05
    ) -> None:
        super().__init__(weights, {"lr": lr, "momentum": momentum, "decay": decay})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        """One step. Matrices of one shape go through the iteration together: a launch for all of them."""
        for group in self.param_groups:
            shapes: defaultdict[tuple[int, int], list[nn.Parameter]] = defaultdict(list)
            for weight in group["params"]:
                if weight.grad is not None:
                    shapes[weight.shape].append(weight)
            for (rows, columns), weights in shapes.items():
                momenta = [self.state[w].setdefault("momentum", torch.zeros_like(w)) for w in weights]
                gradients = [w.grad for w in weights]
                torch._foreach_lerp_(momenta, gradients, 1 - group["momentum"])
                ahead = torch.stack(torch._foreach_lerp(gradients, momenta, group["momentum"]))
                wide = rows <= columns
                update = orthogonal(ahead if wide else ahead.mT)
                update = (update if wide else update.mT).to(weights[0].dtype)
                size = group["lr"] * 0.2 * max(rows, columns) ** 0.5
                torch._foreach_mul_(weights, 1 - group["lr"] * group["decay"])
                torch._foreach_add_(weights, list(update.unbind()), alpha=-size)


def optimisers(model: nn.Module, lr: float) -> list[torch.optim.Optimizer]:
    """Muon for matrices inside the network; AdamW for the embedding, the patch convolution and the norms."""
    inner = [p for name, p in model.named_parameters() if p.ndim == 2 and "embeddings" not in name]
    ids = {id(p) for p in inner}
    rest = [p for p in model.parameters() if id(p) not in ids]
    cuda = next(model.parameters()).is_cuda
    return [Muon(inner, lr), torch.optim.AdamW(rest, lr=lr, betas=(0.9, 0.98), weight_decay=0.0, fused=cuda)]
