"""backend/images.py: what is taken, what comes out of it, and what each refusal says."""

from __future__ import annotations

import hashlib
import io
import math
import random
import re
import struct
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from PIL import Image as Pil
from PIL import ImageChops, ImageCms, ImageDraw, ImageStat
from PIL.PngImagePlugin import PngInfo

from backend import encoding, images, jpeg
from backend.errors import ImageError
from backend.formats import Format
from backend.images import load_image, load_pictures
from backend.names import MAX_NAME_CHARS, shown_name
from backend.types import Image, ImageLimits, Vision

LIMITS = ImageLimits(max_bytes=20_000_000, max_pixels=64_000_000, longest_side=1540)
RED, GREEN, BLUE, YELLOW = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0)
WHITE, BLACK = (255, 255, 255), (0, 0, 0)


def corners(width: int = 48, height: int = 32) -> Pil.Image:
    """Red, green, blue, yellow quarters, clockwise from the top left: each turn of it looks different."""
    picture = Pil.new("RGB", (width, height), RED)
    draw = ImageDraw.Draw(picture)
    x, y = width // 2, height // 2
    draw.rectangle((x, 0, width, y - 1), GREEN)
    draw.rectangle((x, y, width, height), BLUE)
    draw.rectangle((0, y, x - 1, height), YELLOW)
    return picture


def file(picture: Pil.Image, kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()


def load(data: bytes, name: str = "a.png", limits: ImageLimits = LIMITS) -> Image:
    return load_image(data, name, limits)


def pixels(image: Image) -> Pil.Image:
    """The result, decoded independently; every one must keep its promises."""
    picture = Pil.open(io.BytesIO(image.data))
    picture.load()
    assert picture.mode == "RGB"
    assert picture.size == (image.width, image.height)
    assert image.media_type == f"image/{(picture.format or '').lower()}"
    assert image.sha256 == hashlib.sha256(image.data).hexdigest()
    return picture


def near(seen: object, wanted: tuple[int, ...], tolerance: int) -> bool:
    assert isinstance(seen, tuple)
    return all(abs(a - b) <= tolerance for a, b in zip(seen, wanted, strict=True))


def assert_quarters(
    picture: Pil.Image, colours: tuple[tuple[int, int, int], ...], tolerance: int = 12
) -> None:
    w, h = picture.size
    places = ((w // 4, h // 4), (3 * w // 4, h // 4), (3 * w // 4, 3 * h // 4), (w // 4, 3 * h // 4))
    seen = [picture.getpixel(place) for place in places]
    assert all(near(a, b, tolerance) for a, b in zip(seen, colours, strict=True)), seen


def scene(size: tuple[int, int]) -> Pil.Image:
    """Shapes of many sizes, from soft to fine, with edges: what a filter can do well or badly."""
    dice = random.Random(11)
    picture = Pil.new("RGB", size)
    for cells, weight in ((5, 1.0), (20, 0.5), (80, 0.3), (320, 0.2)):
        colours = "RGB" if cells < 80 else "L"
        grid = Pil.frombytes(colours, (cells, cells), dice.randbytes(len(colours) * cells**2)).convert("RGB")
        picture = Pil.blend(picture, grid.resize(size, Pil.Resampling.BICUBIC), weight)
    draw = ImageDraw.Draw(picture)
    for _ in range(60):
        at = [dice.randrange(side) for side in (*size, *size)]
        draw.line(at, tuple(dice.randbytes(3)), dice.randrange(1, 24))
    return picture


def psnr(one: Pil.Image, other: Pil.Image) -> float:
    """Peak signal-to-noise ratio in decibels."""
    squares = ImageStat.Stat(ImageChops.difference(one, other)).sum2
    return 10 * math.log10(255**2 * len(squares) * one.width * one.height / max(sum(squares), 1))


def refusal(data: bytes, name: str = "a.png", limits: ImageLimits = LIMITS) -> ImageError:
    with pytest.raises(ImageError) as caught:
        load_image(data, name, limits)
    assert_fit_to_show(caught.value, name)
    return caught.value


def assert_fit_to_show(error: ImageError, name: str) -> None:
    assert error.what.startswith(f"“{shown_name(name)}” ")
    assert error.what.endswith(".")
    assert error.action.endswith(".")
    assert not re.search(r"0x|/|\bobject\b|Error|PIL|<", str(error).removeprefix(f"“{shown_name(name)}”")), (
        error
    )
    assert error.__cause__ is None
    assert error.__suppress_context__


def png(
    size: tuple[int, int], depth: int, colour: int, rows: bytes, *extra: tuple[bytes, bytes], end: bool = True
) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", *size, depth, colour, 0, 0, 0)
    parts = [(b"IHDR", header), *extra, (b"IDAT", zlib.compress(rows, 9))] + [(b"IEND", b"")] * end
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(kind, body) for kind, body in parts)


def riff(*chunks: tuple[bytes, bytes]) -> bytes:
    body = b"WEBP" + b"".join(k + struct.pack("<I", len(d)) + d + b"\0" * (len(d) % 2) for k, d in chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def exif(orientation: int, *, order: str = "<", kind: int = 3) -> bytes:
    """A block of EXIF with a maker, the orientation and a GPS directory's place."""
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8)
    value = struct.pack(order + "I", orientation) if kind == 4 else struct.pack(order + "HH", orientation, 0)
    entries = [
        struct.pack(order + "HHI", 0x010F, 2, 4) + b"Cam\0",
        struct.pack(order + "HHI", 0x0112, kind, 1) + value,
        struct.pack(order + "HHII", 0x8825, 4, 1, 60),
    ]
    return b"Exif\0\0" + head + struct.pack(order + "H", len(entries)) + b"".join(entries) + bytes(40)


# --- what is taken -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "media_type", "tolerance"),
    [
        (file(corners(), "JPEG", quality=95), "image/jpeg", 12),
        (file(corners(), "JPEG", quality=95, progressive=True), "image/jpeg", 12),
        (
            file(corners(), "MPO", quality=95, save_all=True, append_images=[Pil.new("RGB", (48, 32))]),
            "image/jpeg",
            12,
        ),
        (file(corners(), "PNG"), "image/png", 0),
        (file(corners().convert("P", palette=Pil.Palette.ADAPTIVE), "PNG"), "image/png", 0),
        (file(corners(), "WEBP", quality=95), "image/jpeg", 16),
        (file(corners(), "WEBP", lossless=True), "image/png", 0),
        (file(corners(), "WEBP", lossless=True, exif=exif(1)), "image/png", 0),
        (file(corners(), "WEBP", quality=95, exif=exif(1)), "image/jpeg", 16),
        (file(corners(), "GIF"), "image/png", 0),
    ],
    ids=["jpeg", "progressive", "mpo", "png", "palette", "webp", "vp8l", "vp8x-vp8l", "vp8x-vp8", "gif"],
)
def test_each_format_is_recognised_by_content_alone(data: bytes, media_type: str, tolerance: int) -> None:
    image = load(data, "holiday.pdf")
    assert image.media_type == media_type
    assert image.name == "holiday.pdf"
    assert (image.width, image.height) == (48, 32)
    assert_quarters(pixels(image), (RED, GREEN, BLUE, YELLOW), tolerance)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_only_the_first_frame_of_an_animation_counts(kind: str) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    later = [Pil.new("RGB", (48, 32), "black"), Pil.new("RGB", (48, 32), "white")]
    data = file(corners(), kind, save_all=True, append_images=later, duration=100, **options)
    image = load(data)
    assert image.media_type == "image/png"
    assert_quarters(pixels(image), (RED, GREEN, BLUE, YELLOW))


TURNS = {  # what is seen after the turn, clockwise from the top left, and whether the sides change places
    1: ((RED, GREEN, BLUE, YELLOW), False),
    2: ((GREEN, RED, YELLOW, BLUE), False),
    3: ((BLUE, YELLOW, RED, GREEN), False),
    4: ((YELLOW, BLUE, GREEN, RED), False),
    5: ((RED, YELLOW, BLUE, GREEN), True),
    6: ((YELLOW, RED, GREEN, BLUE), True),
    7: ((BLUE, GREEN, RED, YELLOW), True),
    8: ((GREEN, BLUE, YELLOW, RED), True),
}


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", TURNS)
@pytest.mark.parametrize("side", [1540, 24])
def test_every_orientation_in_every_format_that_carries_it(kind: str, orientation: int, side: int) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    data = file(corners(), kind, exif=exif(orientation), **options)
    image = load(data, limits=ImageLimits(10**6, 10**6, side))
    colours, sideways = TURNS[orientation]
    width, height = (48, 32) if side == 1540 else (24, 16)
    assert (image.width, image.height) == ((height, width) if sideways else (width, height))
    assert_quarters(pixels(image), colours, 12 if kind == "JPEG" else 2)


def test_orientation_after_the_pixels_of_a_png() -> None:
    rows = b"\0" + bytes((*RED, *BLUE))
    whole = png((2, 1), 8, 2, rows)
    body = exif(3).removeprefix(b"Exif\0\0")
    late = struct.pack(">I", len(body)) + b"eXIf" + body + struct.pack(">I", zlib.crc32(b"eXIf" + body))
    image = load(whole[:-12] + late + whole[-12:])
    assert [pixels(image).getpixel((x, 0)) for x in (0, 1)] == [BLUE, RED]


@pytest.mark.parametrize(
    ("block", "turned"),
    [
        (exif(6, order=">"), True),
        (exif(6, kind=4), True),
        (exif(6, order=">", kind=4), True),
        (exif(0), False),
        (exif(9), False),
        (exif(65535), False),
        (b"Exif\0\0", False),
        (b"Exif\0\0II*\0", False),
        (b"Exif\0\0II*\0\xff\xff\xff\xff", False),
        (b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + bytes(30), False),
        (exif(6)[:20], False),
        (b"Exif\0\0XX" + exif(6)[8:], False),
    ],
)
def test_odd_and_damaged_exif_never_costs_the_picture(block: bytes, turned: bool) -> None:
    image = load(file(corners(), "JPEG", exif=block))
    assert (image.width, image.height) == ((32, 48) if turned else (48, 32))


def test_nothing_but_pixels_is_kept() -> None:
    notes = PngInfo()
    notes.add_text("Author", "secret-author")
    notes.add_itxt("Where", "secret-place", zip=True)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    block = exif(1).replace(b"Cam\0", b"CAM\0")
    xmp = b"<x:xmpmeta>secret-xmp</x:xmpmeta>"
    sources = (
        file(
            corners(),
            "JPEG",
            exif=block,
            icc_profile=profile,
            comment=b"secret-comment",
            xmp=xmp,
            dpi=(72, 72),
        ),
        file(corners(), "PNG", exif=block, icc_profile=profile, pnginfo=notes),
        file(corners(), "WEBP", exif=block, icc_profile=profile, xmp=xmp),
        file(corners(), "GIF", comment=b"secret-comment"),
    )
    for data in sources:
        assert b"CAM" in data or b"secret" in data
        image = load(data)
        picture = pixels(image)
        assert not re.search(rb"secret|CAM|Exif|eXIf|iCCP|ICC_PROFILE|tEXt|iTXt|zTXt|xmp", image.data)
        assert set(picture.info) <= {"jfif", "jfif_version", "jfif_unit", "jfif_density"}
        assert len(picture.getexif()) == 0


# --- colours -------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", [1540, 8])
@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_lies_over_white(mode: str, side: int) -> None:
    picture = Pil.new("RGBA", (16, 16), (0, 0, 0, 255))
    picture.paste((0, 0, 0, 0), (0, 0, 8, 16))
    data = file(picture.convert(mode), "PNG")
    image = pixels(load(data, limits=ImageLimits(10**6, 10**6, side)))
    assert image.getpixel((0, 0)) == WHITE
    assert image.getpixel((image.width - 1, 0)) == BLACK


def test_half_transparent_red_is_pink() -> None:
    image = load(file(Pil.new("RGBA", (4, 4), (255, 0, 0, 128)), "PNG"))
    assert near(pixels(image).getpixel((1, 1)), (255, 127, 127), 1)


def test_the_colour_under_transparency_does_not_bleed_when_reduced() -> None:
    picture = Pil.new("RGBA", (64, 64), (0, 255, 0, 0))
    picture.paste((255, 0, 0, 255), (0, 0, 32, 64))
    image = pixels(load(file(picture, "PNG"), limits=ImageLimits(10**6, 10**6, 15)))
    for x in range(15):
        _, green, blue = image.getpixel((x, 7))  # type: ignore[misc]
        assert abs(green - blue) <= 2, "red fades to white through pink, with no green in it"


def test_a_transparent_gif() -> None:
    picture = Pil.new("P", (4, 4), 1)
    picture.putpalette([10, 20, 30, 255, 0, 0])
    picture.putpixel((0, 0), 0)
    image = pixels(load(file(picture, "GIF", transparency=0)))
    assert image.getpixel((0, 0)) == WHITE
    assert image.getpixel((1, 1)) == RED


@pytest.mark.parametrize(
    ("depth", "colour", "row", "extra", "wanted"),
    [
        (1, 0, b"\x40", (), (BLACK, WHITE)),
        (2, 0, b"\x60", (), ((85,) * 3, (170,) * 3)),
        (4, 0, b"\xf8", (), (WHITE, (136,) * 3)),
        (16, 0, struct.pack(">2H", 0xFFFF, 0x8000), (), (WHITE, (128,) * 3)),
        (16, 0, struct.pack(">2H", 0x1234, 0x00FF), (), ((0x12,) * 3, BLACK)),
        (16, 2, struct.pack(">6H", 0xFFFF, 0, 0, 0, 0, 0xFFFF), (), (RED, BLUE)),
        (16, 4, struct.pack(">4H", 0x8000, 0xFFFF, 0, 0), (), ((128,) * 3, WHITE)),
        (16, 6, struct.pack(">8H", 0xFFFF, 0, 0, 0xFFFF, 0, 0, 0, 0), (), (RED, WHITE)),
        (1, 0, b"\x40", ((b"tRNS", b"\0\0"),), (WHITE, WHITE)),
        (8, 0, b"\x00\x07", ((b"tRNS", b"\0\7"),), (BLACK, WHITE)),
        (8, 2, bytes((*RED, *BLUE)), ((b"tRNS", struct.pack(">3H", *BLUE)),), (RED, WHITE)),
        (
            16,
            2,
            struct.pack(">6H", 0xFFFF, 0, 0, 0, 0, 0xFFFF),
            ((b"tRNS", b"\xff\xff\0\0\0\0"),),
            (WHITE, BLUE),
        ),
        (16, 0, struct.pack(">2H", 0xFFFF, 0x8000), ((b"tRNS", b"\x12\x34"),), (WHITE, (128,) * 3)),
        (8, 3, b"\0\1", ((b"PLTE", bytes((*RED, *BLUE))), (b"tRNS", b"\xff\0")), (RED, WHITE)),
    ],
)
def test_every_depth_and_kind_of_png(
    depth: int, colour: int, row: bytes, extra: tuple[tuple[bytes, bytes], ...], wanted: tuple[object, object]
) -> None:
    image = pixels(load(png((2, 1), depth, colour, b"\0" + row, *extra)))
    assert (image.getpixel((0, 0)), image.getpixel((1, 0))) == wanted


@pytest.mark.parametrize("mode", ["CMYK", "L"])
def test_jpegs_in_other_modes(mode: str) -> None:
    image = load(file(Pil.new("RGB", (16, 16), (255, 255, 255)).convert(mode), "JPEG"))
    assert image.media_type == "image/jpeg"
    assert near(pixels(image).getpixel((8, 8)), WHITE, 3)


def test_cmyk_colours_and_reduction() -> None:
    image = load(
        file(corners(480, 320).convert("CMYK"), "JPEG", quality=95), limits=ImageLimits(10**6, 10**6, 60)
    )
    assert (image.width, image.height) == (60, 40)
    assert_quarters(pixels(image), (RED, GREEN, BLUE, YELLOW), 12)


def swapped_profile(space: bytes = b"RGB ") -> bytes:
    """An sRGB profile under another name whose red and blue primaries have changed places."""
    blob = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    blob = blob.replace(b"rXYZ", b"tmp0").replace(b"bXYZ", b"rXYZ").replace(b"tmp0", b"bXYZ")
    blob = blob.replace("sRGB".encode("utf-16-be"), "swap".encode("utf-16-be"))
    return blob[:16] + space + blob[20:]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_the_colour_profile_is_applied(kind: str) -> None:
    data = file(Pil.new("RGB", (16, 16), RED), kind, icc_profile=swapped_profile())
    assert near(pixels(load(data)).getpixel((8, 8)), BLUE, 12)


@pytest.mark.parametrize(
    "profile",
    [b"\0", b"no profile at all", swapped_profile(b"CMYK"), swapped_profile()[:200], b"\xff" * 3000],
)
def test_a_profile_that_does_not_fit_never_costs_the_picture(profile: bytes) -> None:
    image = load(file(Pil.new("RGB", (16, 16), RED), "PNG", icc_profile=profile))
    assert pixels(image).getpixel((8, 8)) == RED


def test_an_srgb_profile_changes_no_pixel() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    picture = Pil.frombytes("RGB", (64, 64), random.Random(1).randbytes(64 * 64 * 3))
    assert pixels(load(file(picture, "PNG", icc_profile=profile))).tobytes() == picture.tobytes()


# --- size and encoding ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "side", "after"),
    [
        ((1, 1), 64, (1, 1)),
        ((1, 200), 64, (1, 64)),
        ((200, 1), 64, (64, 1)),
        ((20, 4000), 64, (1, 64)),
        ((4000, 20), 1000, (1000, 5)),
        ((640, 480), 640, (640, 480)),
        ((641, 480), 640, (640, 479)),
        ((1000, 667), 500, (500, 334)),
        ((480, 641), 640, (479, 640)),
        ((1000, 1000), 64, (64, 64)),
    ],
)
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_the_longest_side_is_reduced_and_nothing_is_enlarged(
    kind: str, before: tuple[int, int], side: int, after: tuple[int, int]
) -> None:
    image = load(file(Pil.new("RGB", before, (10, 200, 30)), kind), limits=ImageLimits(10**7, 10**7, side))
    assert (image.width, image.height) == after
    assert near(pixels(image).getpixel((0, 0)), (10, 200, 30), 6)


@pytest.mark.parametrize(
    ("size", "small"),
    [
        ((1540, 1155), (400, 300)),
        ((401, 4), (400, 4)),
        ((3, 4096), (1, 400)),
        ((400, 400), None),
        ((2, 2), None),
    ],
)
def test_larger_pictures_bring_a_thumbnail(size: tuple[int, int], small: tuple[int, int] | None) -> None:
    limits = ImageLimits(10**7, 10**7, 4096)
    image = load(file(corners(*size), "PNG"), limits=limits)

    if small is None:
        assert image.thumbnail == b""
        return
    seen = Pil.open(io.BytesIO(image.thumbnail))
    assert (seen.format, seen.mode, seen.size) == ("JPEG", "RGB", small)
    assert set(seen.info) <= {"jfif", "jfif_version", "jfif_unit", "jfif_density"}
    if size[0] > size[1]:
        places = [(x, y) for y in (0, small[1] - 1) for x in (0, small[0] - 1)]
        for place, colour in zip(places, (RED, GREEN, YELLOW, BLUE), strict=True):
            assert near(seen.getpixel(place), colour, 12)


def test_scaled_decoding_of_a_jpeg_looks_like_plain_reduction() -> None:
    noise = Pil.frombytes("RGB", (20, 16), random.Random(2).randbytes(20 * 16 * 3))
    data = file(noise.resize((1000, 800), Pil.Resampling.BICUBIC), "JPEG", quality=95)
    image = pixels(load(data, limits=ImageLimits(10**7, 10**7, 110)))
    plain = Pil.open(io.BytesIO(data)).resize((110, 88), Pil.Resampling.LANCZOS)
    differences = [abs(a - b) for a, b in zip(image.tobytes(), plain.tobytes(), strict=True)]
    assert sum(differences) / len(differences) < 6, "noise, by a filter that is twice as fast as Lanczos"
    assert image.size == plain.size


@pytest.mark.parametrize("side", [256, 500, 640, 1000, 1540])
def test_a_reduced_photo_looks_as_by_lanczos(side: int) -> None:
    photo = scene((2400, 1800))
    data = file(photo, "JPEG", quality=92)
    ours = pixels(load(data, limits=replace(LIMITS, longest_side=side)))
    ideal = photo.resize(ours.size, Pil.Resampling.LANCZOS)
    # Lanczos and JPEG of quality 90 has 36 to 44 dB here, ours 33 to 44.
    assert psnr(ours.convert("L"), ideal.convert("L")) > 32
    theirs = Pil.open(io.BytesIO(data))
    theirs.thumbnail((side, side))
    by_pillow = Pil.open(io.BytesIO(file(theirs, "JPEG", quality=90)))
    assert psnr(ours, ideal) > psnr(by_pillow, ideal) - 1, "Pillow's own way, which takes twice as long"


def test_a_jpeg_is_decoded_at_the_smallest_sufficient_scale(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[object] = []
    resize = Pil.Image.resize

    def spy(self: Pil.Image, *args: object, **options: object) -> Pil.Image:
        seen.append((self.size, options["box"]))
        return resize(self, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Pil.Image, "resize", spy)
    for colours in ("RGB", "CMYK"):  # by libjpeg-turbo's own interface, and through Pillow
        data = file(Pil.new(colours, (1009, 807)), "JPEG")
        for side in (120, 130, 300):
            load(data, limits=ImageLimits(10**7, 10**7, side))
    scales = [
        ((127, 101), (0, 0, 1009 / 8, 807 / 8)),
        ((253, 202), (0, 0, 1009 / 4, 807 / 4)),
        ((505, 404), (0, 0, 1009 / 2, 807 / 2)),
    ]
    assert [one for one in seen if one in scales] == scales * 2


def test_a_photo_in_a_png_becomes_a_jpeg_with_full_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    noise = Pil.frombytes("RGB", (900, 900), random.Random(3).randbytes(900 * 900 * 3))
    image = load(file(noise, "PNG"))
    assert image.media_type == "image/jpeg"
    assert len(image.data) < encoding.MAX_PNG_BYTES
    plain = file(
        noise.resize((90, 90), Pil.Resampling.BOX).resize((900, 900), Pil.Resampling.BICUBIC), "TIFF"
    )
    monkeypatch.setattr(encoding, "MAX_PNG_BYTES", 10)
    monkeypatch.setattr(encoding, "_PNG_BYTES_PER_PIXEL", 0)
    assert pixels(load(plain)).layer[0][1:3] == (1, 1), "4:4:4"  # type: ignore[attr-defined]


def test_the_same_bytes_give_the_same_hash_in_every_thread() -> None:
    sources = [file(corners(300, 200), kind) for kind in ("JPEG", "PNG", "WEBP", "GIF")] * 8
    alone = [load(data).sha256 for data in sources[:4]]
    start = threading.Barrier(4)

    def task(data: bytes, wait: bool) -> str:
        if wait:
            start.wait(timeout=10)
        return load(data).sha256

    with ThreadPoolExecutor(4) as pool:
        hashes = list(pool.map(task, sources, [True] * 4 + [False] * (len(sources) - 4)))
    assert hashes == alone * 8
    assert len(set(alone)) >= 3


# --- what is refused -----------------------------------------------------------------------------


def test_too_many_bytes_names_the_setting_and_both_sizes() -> None:
    error = refusal(b"\x89PNG" + bytes(2_000_001), limits=ImageLimits(2_000_000, 10, 64))
    assert error.what == "“a.png” has 2.1 MB; a picture may have 2 MB."
    assert "--max-file-mb" in error.action


@pytest.mark.parametrize(
    "data",
    [
        png((100_000, 100_000), 8, 2, b"\0"),
        png((2**31 - 1, 2**31 - 1), 1, 0, b"\0"),
        b"GIF89a" + struct.pack("<HH", 65535, 65535) + b"\0\0\0,\0\0\0\0\1\0\1\0\0\2\2D\1\0;",
        file(Pil.new("RGB", (8, 8)), "JPEG").replace(b"\0\x08\0\x08\3", b"\xff\xff\xff\xff\3"),
        riff(
            (b"VP8X", b"\2\0\0\0\xff\x3f\0\xff\x3f\0"),
            (b"ANIM", bytes(6)),
            (b"ANMF", bytes(16) + file(Pil.new("RGB", (1, 1)), "WEBP", lossless=True)[12:]),
        ),
    ],
    ids=["png", "png-max", "gif", "jpeg", "webp"],
)
def test_bombs_are_refused_by_their_header(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr(images, "_with_plain_samples", never)
    error = refusal(data)
    assert "megapixels; a picture may have 64." in error.what
    assert "--max-megapixels" in error.action


def test_the_limit_on_pixels_is_exact_and_needs_no_global(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Pil, "MAX_IMAGE_PIXELS", 10)
    data = png((1000, 1000), 1, 0, bytes(126 * 1000))
    assert len(data) < 500, "highly compressed"
    assert load(data, limits=ImageLimits(1000, 1_000_000, 1540)).width == 1000
    assert refusal(data, limits=ImageLimits(1000, 999_999, 1540)).what.startswith("“a.png” has 1 megapixels;")


def test_a_gif_frame_far_beyond_its_header() -> None:
    data = b"GIF89a\1\0\1\0\0\0\0,\0\0\0\0" + struct.pack("<HH", 65535, 65535) + b"\0\2\2D\1\0;"
    assert "too large" in refusal(data).what


def test_a_text_chunk_that_unpacks_to_a_lot() -> None:
    bomb = b"k\0\0" + zlib.compress(bytes(50_000_000), 9)
    assert len(bomb) < 60_000
    refusal(png((1, 1), 8, 0, b"\0\0", (b"zTXt", bomb)))


def test_a_jpeg_of_endless_scans_is_refused_and_other_markers_do_not_count() -> None:
    data = file(corners(), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    endless = data[:last] + data[last:-2] * jpeg.MAX_SCANS + data[-2:]
    assert "too long" in refusal(endless).what
    comment = b"\xff\xfe\x10\x02" + b"\xff\xda" * 0x800
    assert load(data[:2] + comment + data[2:]).width == 48, "inside a segment"
    assert load(data + b"\xff\xda" * 1000).width == 48, "after the end: a phone's appended video"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF"])
def test_truncated_anywhere_it_is_refused_or_whole(kind: str) -> None:
    picture = Pil.frombytes("RGB", (40, 30), random.Random(4).randbytes(40 * 30 * 3))
    data = file(picture, kind)
    whole = pixels(load(data)).tobytes()
    refused = 0
    for length in [*range(1, 64), *range(64, len(data), 41)]:
        try:
            image = load(data[:length])
        except ImageError as error:
            assert_fit_to_show(error, "a.png")
            refused += 1
        else:
            assert pixels(image).tobytes() == whole, length
    assert refused > 60
    assert "damaged or incomplete" in refusal(data[: len(data) // 2]).what


@pytest.mark.parametrize("seed", range(8))
def test_damaged_files_give_a_picture_or_a_sentence(seed: int) -> None:
    dice = random.Random(seed)
    sources = [
        file(corners(), "JPEG", exif=exif(6), icc_profile=swapped_profile()),
        file(corners().convert("CMYK"), "JPEG", progressive=True),
        file(corners().convert("P"), "PNG", transparency=0, exif=exif(6)),
        file(corners().convert("RGBA"), "PNG", icc_profile=swapped_profile()),
        file(corners(), "WEBP", exif=exif(6)),
        file(corners(), "WEBP", lossless=True),
        file(corners(), "GIF", save_all=True, append_images=[Pil.new("RGB", (48, 32))]),
    ]
    small = ImageLimits(10**6, 10**6, 64)
    outcomes = set()
    for _ in range(40):
        data = bytearray(dice.choice(sources))
        for _ in range(dice.randint(1, 8)):
            data[dice.randrange(12, len(data))] = dice.randrange(256)
        try:
            pixels(load(bytes(data), limits=small))
            outcomes.add("taken")
        except ImageError as error:
            assert_fit_to_show(error, "a.png")
            outcomes.add("refused")
    assert outcomes == {"taken", "refused"}


@pytest.mark.parametrize(
    "start", [b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"RIFF\x40\0\0\0WEBPVP8 "]
)
def test_random_bytes_behind_a_true_signature(start: bytes) -> None:
    dice = random.Random(start)
    for length in (0, 1, 7, 100, 3000):
        for _ in range(6):
            refusal(start + dice.randbytes(length))


@pytest.mark.parametrize(
    "error", [MemoryError("0xdead"), struct.error("x"), SyntaxError("<PIL at 0x7f>"), OSError(2, "/p")]
)
def test_whatever_a_reader_raises_becomes_a_plain_sentence(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setitem(images._READERS, Format.PNG, fail)
    refusal(png((1, 1), 8, 0, b"\0\0"))


FTYP = b"\0\0\0\x18ftyp%s\0\0\0\0mif1"


@pytest.mark.parametrize(
    ("data", "what", "action"),
    [
        (b"", "is empty", "Choose the file again"),
        (b"<svg width='4'/>", "SVG drawings cannot be taken", "Save it as PNG and add that."),
        (b"\xef\xbb\xbf<?xml version='1.0'?>\n<!-- x -->\n<svg/>", "SVG drawings cannot be taken", "PNG"),
        (b"<!DOCTYPE svg PUBLIC ''><SVG>", "SVG drawings cannot be taken", "PNG"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "PostScript and EPS cannot be taken", "PDF or PNG"),
        (b"\xc5\xd0\xd3\xc6\x1e\0\0\0", "PostScript and EPS cannot be taken", "PDF or PNG"),
        (FTYP % b"isom", "videos and sound cannot be taken", "still picture"),
        (FTYP % b"qt  ", "videos and sound cannot be taken", "still picture"),
        (FTYP % b"crx ", "RAW files cannot be taken", "Export it as JPEG"),
        (b"\x1aE\xdf\xa3webm", "videos and sound cannot be taken", "still picture"),
        (b"RIFF\0\0\0\0AVI LIST", "videos and sound cannot be taken", "still picture"),
        (file(corners(), "JPEG2000"), "JPEG 2000 picture", "Save it as JPEG"),
        (file(corners(), "ICO"), "icon files cannot be taken", "Save it as PNG"),
        (b"8BPS\0\1", "Photoshop", "Export it as PNG"),
        (b"\xff\x0a\xfa\x1f", "a JPEG XL picture", "Save it as JPEG"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "a JPEG XL picture", "Save it as JPEG"),
        (b"PK\3\4\x14\0", "archive or office document", "Save a document as PDF"),
        (b"\n<!DOCTYPE html><html>", "web pages cannot be taken", "Open the picture itself"),
        (b"<!-- x --><html lang=en>", "web pages cannot be taken", "Open the picture itself"),
        (b"<HTML><svg>", "web pages cannot be taken", "Open the picture itself"),
        (b"hello", "is not a picture that can be read", "HEIC, TIFF, BMP or PDF"),
        (b"BM is how this text begins", "is not a picture that can be read", "HEIC, TIFF, BMP or PDF"),
        (b"\xff\xd8", "is not a picture that can be read", "HEIC, TIFF, BMP or PDF"),
    ],
)  # fmt: skip
def test_known_kinds_are_named_with_the_way_out(data: bytes, what: str, action: str) -> None:
    error = refusal(data, "C:\\Users\\me\\photo.jpg")
    assert error.what.startswith("“photo.jpg” ")
    assert what in error.what
    assert action in error.action


def test_formats_that_pillow_knows_but_that_are_not_listed_reach_no_decoder() -> None:
    for kind in ("ICO", "PPM", "TGA", "PCX", "SGI", "DDS", "JPEG2000", "IM", "XBM", "EPS"):
        refusal(file(corners().convert("1" if kind == "XBM" else "RGB"), kind), "a.jpg")


# --- names ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("cat.jpg", "cat.jpg"),
        ("/etc/passwd", "passwd"),
        ("C:\\fakepath\\cat.jpg", "cat.jpg"),
        ("..\\../a/b.png", "b.png"),
        ("", "picture"),
        ("folder/", "picture"),
        ("..", "picture"),
        (" \t\n", "picture"),
        ("\u202e\u200b", "picture"),
        ("a\x00b\x1b[31mc\x7f.png", "ab[31mc.png"),
        ("exe.\u202egnp.jpg", "exe.gnp.jpg"),
        ("\u2066a\u2069\u200eb\u061c\ufeff.png", "ab.png"),
        ("Screenshot\u202f9.41\u00a0PM\r\n.png", "Screenshot 9.41 PM .png"),
        ("a\u2028b\u2029c\u0085d", "a b c d"),
        ("bad\udcffname.png", "badname.png"),
        ("日本語 ö.png", "日本語 ö.png"),
        ("👩\u200d🚀.png", "👩\u200d🚀.png"),
    ],
)
def test_names_are_safe_to_show(name: str, shown: str) -> None:
    assert shown_name(name) == shown
    assert load(png((1, 1), 8, 0, b"\0\0"), name).name == shown
    shown.encode()


def test_long_names_keep_both_ends() -> None:
    shown = shown_name("a" * 500 + ".jpeg")
    assert len(shown) == MAX_NAME_CHARS == 80
    assert shown.startswith("aaa")
    assert shown.endswith("a.jpeg")
    assert "…" in shown


def test_refusals_carry_the_shown_name() -> None:
    assert refusal(b"", "/home/me/\u202egpj.exe").what == "“gpj.exe” is empty."


def test_no_warning_reaches_the_person_or_the_log(recwarn: pytest.WarningsRecorder) -> None:
    load(file(corners(), "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\x09\0" + bytes(20)))
    assert not recwarn.list


def test_what_nobody_looks_at_is_as_small_as_the_model_reads_it_and_has_no_thumbnail() -> None:
    out = io.BytesIO()
    Pil.new("RGB", (900, 600), (200, 30, 30)).save(out, "PNG")
    vision = Vision(256, 16)
    (shown,) = load_pictures(out.getvalue(), "a.png", LIMITS, vision=vision).pictures
    (read,) = load_pictures(out.getvalue(), "a.png", LIMITS, vision=vision, for_people=False).pictures
    assert (shown.width, bool(shown.thumbnail)) == (512, True)
    assert (read.width, read.thumbnail) == (256, b"")
