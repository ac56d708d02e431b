"""A checkpoint to the files that `vllm serve --config-format mistral --load-format mistral` reads.

    python -m training.export                             training/build/ -> training/build/model/
    python -m training.export --out assets/demo-model     to ship it

vLLM reads `consolidated*.safetensors`: the weights go into as many as keep each under 9.5 MB.
"""

import argparse
import json
import shutil
from pathlib import Path

import torch

from training.checkpoint import read_shards, write_shards
from training.model import ModelArgs, Pixtral, VisionArgs
from training.tokenizer import BUILD

SHIPPED = Path(__file__).resolve().parent.parent / "assets" / "demo-model"


def model_args(params: dict) -> ModelArgs:
    """The model's sizes from params.json."""
    known = {k: v for k, v in params.items() if k in ModelArgs.__dataclass_fields__}
    return ModelArgs(**{**known, "vision_encoder": VisionArgs(**known["vision_encoder"])})


def export(checkpoint: Path, tokenizer: Path, folder: Path) -> None:
    """Write params.json, tekken.json and consolidated*.safetensors."""
    weights = read_shards(checkpoint, "weights")
    params = json.loads((checkpoint / "state.json").read_text())["params"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "params.json").write_text(json.dumps(params, indent=2) + "\n")
    if tokenizer.resolve() != (folder / "tekken.json").resolve():
        shutil.copyfile(tokenizer, folder / "tekken.json")
    paths = write_shards(weights, folder, "consolidated", only=True)
    sizes = ", ".join(f"{path.stat().st_size:,}" for path in paths)
    print(f"{folder}: {sum(w.numel() for w in weights.values()):,} parameters in files of {sizes} bytes")


def load(folder: Path, dtype: torch.dtype = torch.float32) -> Pixtral:
    """The exported model in PyTorch, for checks.

    Raises:
        ValueError: weights are missing, or there are some that the model has no place for.
    """
    model = Pixtral(model_args(json.loads((folder / "params.json").read_text())))
    missing, unexpected = model.load_state_dict(read_shards(folder, "consolidated"), strict=False)
    if missing or unexpected:
        raise ValueError(f"weights do not fit: missing {missing}, unexpected {unexpected}")
    return model.to(dtype).eval()


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", type=Path, default=BUILD)
    parser.add_argument("--tokenizer", type=Path, default=BUILD / "tekken.json")
    parser.add_argument("--out", type=Path, default=BUILD / "model")
    given = parser.parse_args()
    export(given.checkpoint, given.tokenizer, given.out)


if __name__ == "__main__":
    main()
