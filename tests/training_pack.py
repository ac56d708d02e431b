"""A tiny pack for tests of training: real names, pictures made up here, Pillow's own font, no photographs."""

import hashlib
import io
import json
from pathlib import Path

from PIL import Image, ImageDraw

from training.pack import STYLES, normal_code, write
from training.pictograms import by_role


def drawn(svg: str, width: int) -> bytes:
    """PNG of a pattern that depends on the document alone."""
    seed = hashlib.sha256(svg.encode()).digest()
    image = Image.new("RGBA", (width, width))
    pen = ImageDraw.Draw(image)
    for i in range(0, 20, 5):
        x, y, size = (
            seed[i] * width // 512,
            seed[i + 1] * width // 512,
            width // 3 + seed[i + 2] * width // 1024,
        )
        pen.rectangle((x, y, x + size, y + size), fill=(*seed[i + 2 : i + 5], 255))
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def tiny_pack(folder: Path) -> Path:
    """Make train.zip and exam.zip; gives their folder."""
    animals = [p for p in by_role("known") if p.group == "animals"][:40]
    things = [*animals, *by_role("foreign")[:12], *by_role("unknown")[:12]]
    for style in STYLES:
        (folder / "packages" / style).mkdir(parents=True)
        codes = {normal_code(p.codes[0]).lower(): p.name.replace(" ", "-") for p in things}
        icons = {name: {"body": f"<path d='{style} {name}'/>"} for name in codes.values()}
        (folder / "packages" / style / "icons.json").write_text(json.dumps({"icons": icons}))
        (folder / "packages" / style / "chars.json").write_text(json.dumps(codes))
    write(folder / "packages", folder / "pack", draw=drawn, fonts=False, photos=False)
    return folder / "pack"
