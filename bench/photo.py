"""The picture that is measured with, made here: it compresses about as a phone's photo does."""

import io

import numpy as np
import pillow_heif
from PIL import Image as Pil

SIZE = (4032, 3024)  # 12 megapixels
QUALITY = 95  # about 5 MB


def photo(size: tuple[int, int] = SIZE, seed: int = 7) -> Pil.Image:
    """Soft shapes in many sizes with sensor noise."""
    dice = np.random.default_rng(seed)
    pixels = np.zeros((size[1], size[0], 3), np.float32)
    for cells, weight in ((6, 90.0), (24, 60.0), (96, 30.0), (400, 14.0), (1600, 5.0)):
        grid = dice.random((cells * 3 // 4, cells, 3), np.float32) * 255
        layer = Pil.fromarray(grid.astype(np.uint8)).resize(size, Pil.Resampling.BICUBIC)
        pixels += (np.asarray(layer, np.float32) - 128) * (weight / 128)
    pixels += 128 + dice.standard_normal((size[1], size[0], 1), np.float32) * 4
    return Pil.fromarray(pixels.clip(0, 255).astype(np.uint8))


def encoded(kind: str, picture: Pil.Image | None = None, seed: int = 7, quality: int = QUALITY) -> bytes:
    """As phones and programs write it: JPEG with EXIF, HEIC or PNG."""
    picture = picture or photo(seed=seed)
    out, exif = io.BytesIO(), Pil.Exif()
    exif[0x0112], exif[0x010F] = 1, "Camera"
    match kind:
        case "JPEG":
            picture.save(out, "JPEG", quality=quality, exif=exif)
        case "HEIC":
            pillow_heif.from_pillow(picture).save(out, quality=70)
        case _:
            picture.save(out, kind, compress_level=1)
    return out.getvalue()
