"""Pictures that the demo model knows: one large coloured shape on white."""

import io

from PIL import Image, ImageDraw

SIDE = 240


def drawing(colour: str, shape: str) -> bytes:
    """A PNG of, say, a red circle."""
    picture = Image.new("RGB", (SIDE, SIDE), "white")
    pen = ImageDraw.Draw(picture)
    match shape:
        case "circle":
            pen.ellipse((50, 50, 190, 190), fill=colour)
        case "square":
            pen.rectangle((50, 50, 190, 190), fill=colour)
        case "triangle":
            pen.polygon([(120, 40), (40, 190), (200, 190)], fill=colour)
        case _:
            raise ValueError(shape)
    data = io.BytesIO()
    picture.save(data, "PNG")
    return data.getvalue()


RED_CIRCLE = drawing("red", "circle")
BLUE_SQUARE = drawing("blue", "square")
GREEN_TRIANGLE = drawing("green", "triangle")
