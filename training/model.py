"""A Pixtral in plain PyTorch, with the weight names of Mistral's own format.

Vision: patches of 16 px, RMSNorm, blocks with two-dimensional rotary positions; then 2 x 2 patches are merged
into one image token and projected to the text's width. Text: a causal decoder with rotary positions and
grouped queries; its output layer is its embedding. vLLM loads these weights by these names
(vllm/model_executor/models/pixtral.py and mistral.py), so nothing needs converting.

Shapes: B conversations, T tokens, N pictures, P patches, D width, H heads.
"""

import math
from dataclasses import asdict, dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# What mistral-common normalises with (mistral_common/tokens/tokenizers/image.py).
MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True)
class VisionArgs:
    """Names as in params.json."""

    hidden_size: int = 256
    num_channels: int = 3
    image_size: int = 256
    patch_size: int = 16
    intermediate_size: int = 640
    num_hidden_layers: int = 7
    num_attention_heads: int = 8
    rope_theta: float = 10_000.0
    image_token_id: int = 10
    image_break_token_id: int = 12
    image_end_token_id: int = 13
    adapter_bias: bool = False
    spatial_merge_size: int = 2
    add_pre_mm_projector_layer_norm: bool = True
    mm_projector_id: str = "patch_merge"


@dataclass(frozen=True)
class ModelArgs:
    """Names as in params.json."""

    vocab_size: int
    dim: int = 256
    n_layers: int = 4
    head_dim: int = 32
    hidden_dim: int = 512
    n_heads: int = 8
    n_kv_heads: int = 2
    norm_eps: float = 1e-5
    rope_theta: float = 10_000.0
    max_position_embeddings: int = 4096
    tied_embeddings: bool = True
    vision_encoder: VisionArgs = field(default_factory=VisionArgs)

    def params(self) -> dict[str, object]:
        """The content of params.json."""
        return {**asdict(self), "max_seq_len": self.max_position_embeddings, "dtype": "bfloat16"}


class RMSNorm(nn.Module):
    """x / rms(x) * weight, computed in float32."""

    def __init__(self, dim: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x.float(), (x.shape[-1],), self.weight.float(), self.eps).to(x.dtype)


class FeedForward(nn.Module):
    """SwiGLU."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.w1 = nn.Linear(dim, hidden, bias=False)
        self.w2 = nn.Linear(hidden, dim, bias=False)
        self.w3 = nn.Linear(dim, hidden, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.w2(F.silu(self.w1(x)) * self.w3(x))


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary positions on neighbouring pairs. x (..., S, H, d), cos and sin (..., S, 1, d / 2)."""
    a, b = x.float().unflatten(-1, (-1, 2)).unbind(-1)
    return torch.stack((a * cos - b * sin, a * sin + b * cos), -1).flatten(-2).to(x.dtype)


class Attention(nn.Module):
    """Attention with rotary positions; causal for text, masked to the picture for vision."""

    def __init__(self, dim: int, heads: int, kv_heads: int, head_dim: int) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.head_dim = heads, kv_heads, head_dim
        self.wq = nn.Linear(dim, heads * head_dim, bias=False)
        self.wk = nn.Linear(dim, kv_heads * head_dim, bias=False)
        self.wv = nn.Linear(dim, kv_heads * head_dim, bias=False)
        self.wo = nn.Linear(heads * head_dim, dim, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor | None) -> Tensor:
        """x (B, S, D); mask (B, 1, 1, S) true where keys exist, or None for causal."""
        q = rotate(self.wq(x).unflatten(-1, (self.heads, -1)), cos, sin)
        k = rotate(self.wk(x).unflatten(-1, (self.kv_heads, -1)), cos, sin)
        v = self.wv(x).unflatten(-1, (self.kv_heads, -1))
        if self.kv_heads < self.heads:
            k, v = (t.repeat_interleave(self.heads // self.kv_heads, dim=2) for t in (k, v))
        q, k, v = (t.transpose(1, 2) for t in (q, k, v))
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None)
        return self.wo(out.transpose(1, 2).flatten(2))


class Block(nn.Module):
    """Attention and feed-forward, each behind a norm and around a residual."""

    def __init__(self, dim: int, heads: int, kv_heads: int, head_dim: int, hidden: int, eps: float) -> None:
        super().__init__()
        self.attention = Attention(dim, heads, kv_heads, head_dim)
        self.feed_forward = FeedForward(dim, hidden)
        self.attention_norm = RMSNorm(dim, eps)
        self.ffn_norm = RMSNorm(dim, eps)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor | None = None) -> Tensor:
        x = x + self.attention(self.attention_norm(x), cos, sin, mask)
        return x + self.feed_forward(self.ffn_norm(x))


def merged_positions(grids: Tensor, patches: int) -> tuple[Tensor, Tensor]:
    """Row and column of each patch, (N, P), in the order of `data.patches`; grids (N, 2) of image tokens."""
    index = torch.arange(patches, device=grids.device)[None]
    cell, inside = index // 4, index % 4
    columns = grids[:, 1:]
    return 2 * (cell // columns) + inside // 2, 2 * (cell % columns) + inside % 2


class Vision(nn.Module):
    """The encoder of pictures."""

    def __init__(self, args: VisionArgs) -> None:
        super().__init__()
        head_dim = args.hidden_size // args.num_attention_heads
        shape = (args.num_attention_heads, args.num_attention_heads, head_dim, args.intermediate_size, 1e-5)
        self.patch_conv = nn.Conv2d(3, args.hidden_size, args.patch_size, args.patch_size, bias=False)
        self.ln_pre = RMSNorm(args.hidden_size, 1e-5)
        self.transformer = nn.Module()
        self.transformer.layers = nn.ModuleList(
            Block(args.hidden_size, *shape) for _ in range(args.num_hidden_layers)
        )
        frequencies = args.rope_theta ** (-torch.arange(0, head_dim, 2).float() / head_dim)
        self.register_buffer("frequencies", frequencies, persistent=False)
        self.register_buffer("mean", torch.tensor(MEAN).repeat_interleave(256), persistent=False)
        self.register_buffer("std", torch.tensor(STD).repeat_interleave(256), persistent=False)

    def forward(self, patches: Tensor, grids: Tensor) -> Tensor:
        """patches (N, P, 768) float levels, grids (N, 2) -> features (N, P, D)."""
        pixels = (patches / 255 - self.mean) / self.std
        x = self.ln_pre(F.linear(pixels.to(self.patch_conv.weight.dtype), self.patch_conv.weight.flatten(1)))
        rows, columns = merged_positions(grids, patches.shape[1])
        # even frequencies turn with the row, odd ones with the column
        angles = torch.cat(
            (rows[..., None] * self.frequencies[::2], columns[..., None] * self.frequencies[1::2]), dim=-1
        )[:, :, None]
        mask = torch.arange(patches.shape[1], device=x.device)[None] < 4 * grids.prod(-1, keepdim=True)
        for layer in self.transformer.layers:
            x = layer(x, angles.cos(), angles.sin(), mask[:, None, None, :])
        return x


class Adapter(nn.Module):
    """From the vision's width to the text's."""

    def __init__(self, inner: int, outer: int) -> None:
        super().__init__()
        self.w_in = nn.Linear(inner, outer, bias=False)
        self.w_out = nn.Linear(outer, outer, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.w_out(F.gelu(self.w_in(x)))


class Pixtral(nn.Module):
    """Pictures and text in, logits of the next token out."""

    def __init__(self, args: ModelArgs) -> None:
        super().__init__()
        self.args, vision = args, args.vision_encoder
        self.vision_encoder = Vision(vision)
        self.pre_mm_projector_norm = RMSNorm(vision.hidden_size, 1e-5)
        self.patch_merger = nn.Module()
        self.patch_merger.merging_layer = nn.Linear(4 * vision.hidden_size, vision.hidden_size, bias=False)
        self.vision_language_adapter = Adapter(vision.hidden_size, args.dim)
        self.tok_embeddings = nn.Embedding(args.vocab_size, args.dim)
        shape = (args.n_heads, args.n_kv_heads, args.head_dim, args.hidden_dim, args.norm_eps)
        self.layers = nn.ModuleList(Block(args.dim, *shape) for _ in range(args.n_layers))
        self.norm = RMSNorm(args.dim, args.norm_eps)
        frequencies = args.rope_theta ** (-torch.arange(0, args.head_dim, 2).float() / args.head_dim)
        self.register_buffer("frequencies", frequencies, persistent=False)
        self.apply(self._start)
        for name, weight in self.named_parameters():  # residual branches start small
            if name.endswith(("wo.weight", "w2.weight")):
                layers = vision.num_hidden_layers if name.startswith("vision") else args.n_layers
                weight.data /= math.sqrt(2 * layers)

    @staticmethod
    def _start(module: nn.Module) -> None:
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=module.in_features**-0.5)
        elif isinstance(module, nn.Conv2d):
            nn.init.normal_(module.weight, std=768**-0.5)
        elif isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=0.05)

    def see(self, patches: Tensor, grids: Tensor, cells: Tensor) -> Tensor:
        """Image tokens of all pictures in order, (tokens, D); `cells` as in `data.collate`."""
        x = self.vision_encoder(patches, grids)
        x = (
            self.pre_mm_projector_norm(x).unflatten(1, (-1, 4)).transpose(2, 3).flatten(2)
        )  # (N, P / 4, D * 4)
        merged = self.patch_merger.merging_layer(x)
        return self.vision_language_adapter(merged).flatten(0, 1).index_select(0, cells)

    def forward(
        self, tokens: Tensor, patches: Tensor, grids: Tensor, cells: Tensor, at: Tensor | None = None
    ) -> Tensor:
        """Logits (B, T, V), or (K, V) at the flat places `at` (K,)."""
        x = self.tok_embeddings(tokens)
        pictures = (tokens == self.args.vision_encoder.image_token_id)[..., None]
        x = x.masked_scatter(pictures, self.see(patches, grids, cells).to(x.dtype))
        angles = (torch.arange(tokens.shape[1], device=x.device)[:, None] * self.frequencies)[None, :, None]
        cos, sin = angles.cos(), angles.sin()
        for layer in self.layers:
            x = layer(x, cos, sin)
        x = self.norm(x if at is None else x.flatten(0, 1).index_select(0, at))
        return F.linear(x, self.tok_embeddings.weight)

    @torch.no_grad()
    def answer(
        self, tokens: list[int], seen: tuple[Tensor, Tensor, Tensor], stop: int, most: int = 160
    ) -> list[int]:
        """Greedy tokens after a prompt, without the stop token. Simple and slow: nothing is cached.

        `seen` is patches (levels), grids and cells.
        """
        given = len(tokens)
        while len(tokens) - given < most:
            logits = self(torch.tensor([tokens], device=seen[1].device), *seen)[0, -1]
            if (best := int(logits.argmax())) == stop:
                break
            tokens = [*tokens, best]
        return tokens[given:]
