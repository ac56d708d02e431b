"""What vLLM loads into the tests' engine: with it an answer can last as long as a test needs it."""

from collections.abc import Callable

import torch
from vllm import SamplingParams
from vllm.v1.sample.logits_processor import AdapterLogitsProcessor

from .asking import NEVER_ENDING


class NeverEnding(AdapterLogitsProcessor):
    """Keeps requests that carry the seed of ``NEVER_ENDING`` from choosing an end; others are left alone."""

    def is_argmax_invariant(self) -> bool:
        return False

    def new_req_logits_processor(
        self, params: SamplingParams
    ) -> Callable[[list[int], torch.Tensor], torch.Tensor] | None:
        if params.seed != NEVER_ENDING.seed:
            return None
        ends = sorted(params.all_stop_token_ids)

        def without_end(so_far: list[int], logits: torch.Tensor) -> torch.Tensor:
            logits[ends] = float("-inf")
            return logits

        return without_end
