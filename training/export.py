"""A checkpoint to the files that `vllm serve --config-format mistral --load-format mistral` reads.

python -m training.export             training/checkpoint.pt -> assets/demo-model/
"""

import argparse
import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from training.model import ModelArgs, Pixtral, VisionArgs
from training.tokenizer import MODEL
from training.train import CHECKPOINT

LARGEST = 9_500_000  # bytes of one file: larger ones would need Git LFS on Hugging Face


def model_args(params: dict) -> ModelArgs:
    """The model's sizes from params.json."""
    known = {k: v for k, v in params.items() if k in ModelArgs.__dataclass_fields__}
    return ModelArgs(**{**known, "vision_encoder": VisionArgs(**known["vision_encoder"])})


def export(checkpoint: Path, folder: Path) -> None:
    """Write params.json and consolidated.safetensors beside the tokenizer."""
    saved = torch.load(checkpoint, map_location="cpu", weights_only=True)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "params.json").write_text(json.dumps(saved["args"], indent=2) + "\n")
    weights = {name: tensor.contiguous() for name, tensor in saved["weights"].items()}
    save_file(weights, folder / "consolidated.safetensors", metadata={"format": "pt"})
    (folder / "consolidated.safetensors").chmod(0o644)
    size = (folder / "consolidated.safetensors").stat().st_size
    if size > LARGEST:
        raise SystemExit(f"consolidated.safetensors has {size} bytes, more than {LARGEST}")
    print(f"{folder}: {sum(w.numel() for w in weights.values()):,} parameters, {size:,} bytes")


def load(folder: Path, dtype: torch.dtype = torch.float32) -> Pixtral:
    """The exported model in PyTorch, for checks."""
    model = Pixtral(model_args(json.loads((folder / "params.json").read_text())))
    missing, unexpected = model.load_state_dict(load_file(folder / "consolidated.safetensors"), strict=False)
    if missing or unexpected:
        raise ValueError(f"weights do not fit: missing {missing}, unexpected {unexpected}")
    return model.to(dtype).eval()


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", type=Path, default=CHECKPOINT)
    parser.add_argument("--out", type=Path, default=MODEL)
    given = parser.parse_args()
    export(given.checkpoint, given.out)


if __name__ == "__main__":
    main()
