"""Every format that is taken: turned, coloured, reduced and named as it should be; and damaged at random."""

from __future__ import annotations

import contextlib
import io
import random
import re
import struct

import numpy as np
import pillow_heif
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image as Pil
from PIL import ImageCms, ImageDraw

from backend import jpeg
from backend.errors import ImageError, NoPagesError
from backend.exif import orientation
from backend.formats import Format, Refusal, recognise
from backend.images import load_pictures
from backend.sizing import fit, longest_side
from backend.types import Detail, Image, ImageLimits, Loaded

LIMITS = ImageLimits(max_bytes=20_000_000, max_pixels=64_000_000, longest_side=1540, max_pages=3)
RED, GREEN, BLUE, YELLOW = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0)
WHITE, BLACK = (255, 255, 255), (0, 0, 0)


def corners(width: int = 64, height: int = 48) -> Pil.Image:
    """Red, green, blue, yellow quarters, clockwise from the top left."""
    picture = Pil.new("RGB", (width, height), RED)
    draw = ImageDraw.Draw(picture)
    x, y = width // 2, height // 2
    draw.rectangle((x, 0, width, y - 1), GREEN)
    draw.rectangle((x, y, width, height), BLUE)
    draw.rectangle((0, y, x - 1, height), YELLOW)
    return picture


def file(picture: Pil.Image, kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    if kind == "HEIF":
        pillow_heif.from_pillow(picture).save(out, quality=95, chroma=444, **options)
    else:
        picture.save(out, kind, **options)
    return out.getvalue()


def load(data: bytes, limits: ImageLimits = LIMITS, **options: object) -> Loaded:
    return load_pictures(data, "a.bin", limits, **options)  # type: ignore[arg-type]


def one(data: bytes, limits: ImageLimits = LIMITS) -> Image:
    (picture,) = load(data, limits).pictures
    return picture


def pixels(image: Image) -> Pil.Image:
    picture = Pil.open(io.BytesIO(image.data))
    picture.load()
    assert picture.size == (image.width, image.height)
    assert set(picture.info) <= {"jfif", "jfif_version", "jfif_unit", "jfif_density"}
    return picture.convert("RGB")


def quarters(image: Image) -> list[tuple[int, int, int]]:
    """The nearest of the six colours in each quarter, clockwise from the top left."""
    picture = pixels(image)
    w, h = picture.size
    names = np.array([RED, GREEN, BLUE, YELLOW, WHITE, BLACK])
    seen = []
    for place in ((w // 4, h // 4), (3 * w // 4, h // 4), (3 * w // 4, 3 * h // 4), (w // 4, 3 * h // 4)):
        distances = np.abs(names - np.array(picture.getpixel(place))).max(axis=1)
        assert distances.min() < 40, picture.getpixel(place)
        seen.append(tuple(int(n) for n in names[distances.argmin()]))
    return seen  # type: ignore[return-value]


def refusal(data: bytes, limits: ImageLimits = LIMITS) -> ImageError:
    with pytest.raises(ImageError) as caught:
        load(data, limits)
    assert caught.value.what.startswith("“a.bin” ")
    assert not re.search(r"0x|PIL|Error|Traceback|/tmp", str(caught.value))
    return caught.value


def exif_with(turn: int) -> bytes:
    exif = Pil.Exif()
    exif[0x0112] = turn
    return exif.tobytes()


@pytest.mark.parametrize(
    ("kind", "mode", "options", "lossless"),
    [
        ("AVIF", "RGB", {"quality": 90}, False),
        ("HEIF", "RGB", {}, False),
        ("BMP", "RGB", {}, True),
        ("BMP", "P", {}, True),
        ("TIFF", "RGB", {}, True),
        ("TIFF", "RGB", {"compression": "tiff_lzw"}, True),
        ("TIFF", "RGB", {"compression": "tiff_deflate"}, True),
        ("TIFF", "RGB", {"compression": "jpeg", "quality": 95}, True),
        ("TIFF", "P", {}, True),
        ("TIFF", "CMYK", {}, True),
        ("TIFF", "LAB", {}, True),
    ],
)
def test_further_formats(kind: str, mode: str, options: dict[str, object], lossless: bool) -> None:
    picture = corners()
    if mode == "LAB":
        srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        converted = ImageCms.profileToProfile(picture, srgb, lab, outputMode="LAB")
        assert converted is not None
        picture = converted
    image = one(file(picture.convert(mode) if mode != "LAB" else picture, kind, **options))
    assert image.media_type == ("image/png" if lossless else "image/jpeg")
    assert (image.width, image.height) == (64, 48)
    if mode != "CMYK":  # Pillow's own conversion there and back is plain
        assert quarters(image) == [RED, GREEN, BLUE, YELLOW]


@pytest.mark.parametrize("order", ["<", ">"])
def test_16_bits_of_a_tiff(order: str) -> None:
    samples = struct.pack(order + "4H", 0xFFFF, 0x8000, 0x1234, 0)
    mode = "I;16" if order == "<" else "I;16B"
    image = one(file(Pil.frombytes(mode, (2, 2), samples), "TIFF"))
    assert [pixels(image).getpixel((n % 2, n // 2))[0] for n in range(4)] == [255, 0x80, 0x12, 0]  # type: ignore[index]


TURNS = {
    1: (RED, GREEN, BLUE, YELLOW),
    2: (GREEN, RED, YELLOW, BLUE),
    3: (BLUE, YELLOW, RED, GREEN),
    4: (YELLOW, BLUE, GREEN, RED),
    5: (RED, YELLOW, BLUE, GREEN),
    6: (YELLOW, RED, GREEN, BLUE),
    7: (BLUE, GREEN, RED, YELLOW),
    8: (GREEN, BLUE, YELLOW, RED),
}


@pytest.mark.parametrize("turn", TURNS)
@pytest.mark.parametrize("side", [1540, 32])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_every_turn(kind: str, turn: int, side: int) -> None:
    image = one(file(corners(), kind, exif=exif_with(turn)), ImageLimits(10**6, 10**6, side))
    long, short = (64, 48) if side == 1540 else (32, 24)
    assert (image.width, image.height) == ((short, long) if turn > 4 else (long, short))
    assert quarters(image) == list(TURNS[turn])


@pytest.mark.parametrize("turn", TURNS)
def test_a_heic_is_turned_once(turn: int) -> None:
    """A phone writes the turn twice, for libheif (irot, imir) and as EXIF; only the first counts."""
    pillow_heif.register_heif_opener()
    data = file(corners(), "HEIF", exif=exif_with(turn))
    assert recognise(data) is Format.HEIC
    image = one(data)
    reference = Pil.open(io.BytesIO(data)).convert("RGB")
    difference = np.abs(np.asarray(reference, int) - np.asarray(pixels(image), int))
    assert reference.size == (image.width, image.height)
    assert difference.mean() < 6


def p3_profile() -> bytes:
    """An sRGB profile under another name whose red and blue have changed places."""
    blob = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    blob = blob.replace(b"rXYZ", b"tmp0").replace(b"bXYZ", b"rXYZ").replace(b"tmp0", b"bXYZ")
    return blob.replace("sRGB".encode("utf-16-be"), "swap".encode("utf-16-be"))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF", "HEIF"])
@pytest.mark.parametrize("side", [1540, 20])
def test_profiles_are_applied_in_every_format(kind: str, side: int) -> None:
    data = file(Pil.new("RGB", (64, 48), RED), kind, icc_profile=p3_profile())
    assert quarters(one(data, ImageLimits(10**6, 10**6, side))) == [BLUE] * 4


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF", "AVIF", "HEIF"])
def test_transparency_is_white_in_every_format(kind: str) -> None:
    picture = corners().convert("RGBA")
    picture.paste((0, 0, 0, 0), (0, 0, 32, 24))
    assert quarters(one(file(picture, kind))) == [WHITE, GREEN, BLUE, YELLOW]


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "AVIF", "TIFF"])
def test_what_is_left_out_is_said(kind: str) -> None:
    data = file(corners(), kind, save_all=True, append_images=[corners().rotate(180)])
    loaded = load(data)
    assert quarters(loaded.pictures[0]) == [RED, GREEN, BLUE, YELLOW]
    several = (
        "has several pages: only its first page" if kind == "TIFF" else "is animated: only its first frame"
    )
    assert loaded.remarks == (f"“a.bin” {several} is used.",)
    assert load(file(corners(), kind)).remarks == ()


# JPEG


def test_a_fitting_jpeg_keeps_its_coding_and_nothing_else() -> None:
    xmp = b"<x:xmpmeta>secret</x:xmpmeta>"
    data = file(corners(), "JPEG", quality=83, exif=exif_with(1), comment=b"secret", xmp=xmp) + b"secret" * 9
    image = one(data)
    assert b"secret" not in image.data
    assert b"Exif" not in image.data
    scan = data[data.rindex(b"\xff\xda") : data.rindex(b"\xff\xd9")]
    assert scan in image.data, "not coded again"
    assert np.array_equal(np.asarray(pixels(image)), np.asarray(Pil.open(io.BytesIO(data))))
    assert one(image.data).data == image.data


@pytest.mark.parametrize(
    "data",
    [
        file(corners(), "JPEG", exif=exif_with(6)),
        file(corners(), "JPEG", icc_profile=p3_profile()),
        file(corners().convert("CMYK"), "JPEG"),
        file(corners().convert("L"), "JPEG"),
        file(corners(), "JPEG", keep_rgb=True),
        file(corners(2000, 40), "JPEG"),
    ],
    ids=["turned", "profile", "cmyk", "grey", "rgb", "large"],
)
def test_other_jpegs_are_coded_again(data: bytes) -> None:
    image = one(data)
    scan = data[data.rindex(b"\xff\xda") : data.rindex(b"\xff\xd9")]
    assert scan not in image.data
    assert pixels(image).size == (image.width, image.height)


def test_an_embedded_thumbnail_or_second_picture_is_not_the_picture() -> None:
    hidden = file(Pil.new("RGB", (16, 16), BLACK), "JPEG")
    plain = file(corners(), "JPEG", quality=95)
    comment = b"\xff\xe5" + struct.pack(">H", len(hidden) + 2) + hidden
    image = one(plain[:2] + comment + plain[2:] + hidden)
    assert quarters(image) == [RED, GREEN, BLUE, YELLOW]
    assert image.data.count(b"\xff\xd8\xff") == 1


def test_twelve_bits_are_refused_in_words() -> None:
    data = file(corners(), "JPEG")
    at = re.search(rb"\xff\xc0..\x08", data, re.DOTALL)
    assert at
    error = refusal(data[: at.end() - 1] + b"\x0c" + data[at.end() :])
    assert "12 bits per colour" in error.what
    assert "8 bits" in error.action


def test_a_jpeg_in_adobes_inverted_cmyk() -> None:
    """Pillow writes CMYK as Adobe does, inverted, and says so in an APP14 segment."""
    data = file(Pil.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG", quality=95)
    assert b"Adobe" in data
    assert quarters(one(data)) == [RED] * 4


def test_noise_stays_within_the_bytes_that_a_picture_may_have() -> None:
    noise = Pil.frombytes("RGB", (1540, 1155), random.Random(5).randbytes(1540 * 1155 * 3))
    assert len(one(file(noise.resize((3080, 2310)), "JPEG", quality=95)).data) < 1_200_000


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF"])
def test_small_letters_survive(kind: str) -> None:
    page = Pil.new("RGB", (1200, 800), "white")
    ImageDraw.Draw(page).text((10, 10), "The quick brown fox, 0123456789", fill="black")
    image = one(file(page, kind))
    assert image.media_type == "image/png"
    assert np.array_equal(np.asarray(pixels(image)), np.asarray(page))


# PDF


def pdf(*pages: tuple[int, int], extra: bytes = b"") -> bytes:
    """Pages of these sizes in points, each with a red square in its middle."""
    kids = b" ".join(b"%d 0 R" % (3 + 2 * n) for n in range(len(pages)))
    objects = [b"<</Type/Catalog/Pages 2 0 R>>", b"<</Type/Pages/Kids[%s]/Count %d>>" % (kids, len(pages))]
    for n, (width, height) in enumerate(pages):
        drawn = b"1 0 0 rg %d %d %d %d re f" % (width // 4, height // 4, width // 2, height // 2)
        box = b"/MediaBox[0 0 %d %d]" % (width, height)
        objects.append(b"<</Type/Page/Parent 2 0 R%s/Contents %d 0 R>>" % (box, 4 + 2 * n))
        objects.append(b"<</Length %d>>stream\n%s\nendstream" % (len(drawn), drawn))
    body = b"".join(b"%d 0 obj%s endobj\n" % (n, text) for n, text in enumerate(objects, 1))
    return b"%%PDF-1.4\n%strailer<</Root 1 0 R%s>>\n" % (body, extra)


def test_pages_of_a_pdf() -> None:
    loaded = load(pdf((300, 200), (200, 400)))
    sizes = [(one.width, one.height) for one in loaded.pictures]
    assert sizes == [(1250, 834), (770, 1540)]
    assert loaded.remarks == ()
    for picture in map(pixels, loaded.pictures):
        assert picture.getpixel((picture.width // 2, picture.height // 2)) == RED
        assert picture.getpixel((2, 2)) == WHITE


def test_a_long_pdf_says_which_pages_are_used_and_by_which_setting() -> None:
    data = pdf(*[(100, 100 + n) for n in range(5)])
    loaded = load(data)
    assert len({picture.thumbnail for picture in loaded.pictures}) == 3
    assert loaded.remarks == ("“a.bin” has 5 pages: pages 1 to 3 are used, as --max-pdf-pages allows 3.",)
    named = load(data, pages=range(3, 5))
    assert [round(one.height / one.width, 2) for one in named.pictures] == [1.03, 1.04]
    assert named.remarks == ()
    with pytest.raises(NoPagesError, match=r"5 pages, and none of those.*Name pages from 1 to 5"):
        load(data, pages=range(9, 12))
    with pytest.raises(NoPagesError, match="1 page, and none"):
        load(pdf((100, 100)), pages=range(1, 2))


def test_pdfs_that_cannot_be_opened() -> None:
    assert "damaged" in refusal(b"%PDF-1.7\nnothing").what
    locked = (
        b"/Encrypt<</Filter/Standard/V 1/R 2/O<"
        + b"00" * 32
        + b">/U<"
        + b"00" * 32
        + b">/P -1>>/ID[<00><00>]"
    )
    assert "password" in refusal(pdf((100, 100), extra=locked)).what


# Sizes and details


def test_details() -> None:
    assert [longest_side(detail, 1540) for detail in Detail] == [1540, 512, 3080, 4096]
    assert [longest_side(detail, 400) for detail in Detail] == [400, 400, 800, 4096]
    assert [longest_side(detail, 5000) for detail in Detail] == [5000, 512, 5000, 5000]


@given(
    st.tuples(st.integers(1, 20_000), st.integers(1, 20_000)),
    st.integers(64, 5000),
    st.sampled_from([1, 14, 16, 28, 32]),
)
def test_sizes_fit_and_keep_their_proportions(size: tuple[int, int], longest: int, multiple: int) -> None:
    fitted = fit(size, longest, multiple)
    if max(size) <= longest:
        assert fitted == size
        return
    assert max(fitted) <= longest
    assert all(side % multiple == 0 and side > 0 for side in fitted)
    scale = longest / max(size)
    assert all(abs(after - before * scale) <= multiple for before, after in zip(size, fitted, strict=True))


# Whatever comes

SOURCES = [
    file(corners(), "JPEG", exif=exif_with(6)),
    file(corners(), "JPEG", progressive=True, icc_profile=p3_profile()),
    file(corners().convert("CMYK"), "JPEG"),
    file(corners(), "PNG", exif=exif_with(6)),
    file(corners(), "WEBP", save_all=True, append_images=[corners().rotate(90)]),
    file(corners(), "WEBP", lossless=True),
    file(corners(), "GIF"),
    file(corners(), "AVIF", exif=exif_with(6)),
    file(corners(), "HEIF"),
    file(corners(), "BMP"),
    file(corners(), "TIFF", compression="tiff_lzw"),
    pdf((90, 60)),
]
SMALL = ImageLimits(10**6, 10**6, 64, 2)


def assert_picture_or_sentence(data: bytes) -> None:
    said, pictures = "", ()
    try:
        pictures = load(data, SMALL).pictures
    except ImageError as error:
        said = str(error)
    assert bool(said) != bool(pictures)
    assert not re.search(r"0x[0-9a-f]{4}|PIL|Traceback|/tmp|object at", said)
    assert all(max(pixels(one).size) <= 64 for one in pictures)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_damage_gives_a_picture_or_a_sentence(data: st.DataObject) -> None:
    whole = bytearray(data.draw(st.sampled_from(SOURCES)))
    for _ in range(data.draw(st.integers(1, 5))):
        at = data.draw(st.integers(0, len(whole) - 1))
        whole[at : at + data.draw(st.integers(0, 8))] = data.draw(st.binary(max_size=8))
        whole = whole or bytearray(1)
    assert_picture_or_sentence(bytes(whole))


@settings(max_examples=150, deadline=None)
@given(st.sampled_from([source[:12] for source in SOURCES]), st.binary(max_size=300))
def test_anything_behind_a_true_beginning(start: bytes, rest: bytes) -> None:
    assert_picture_or_sentence(start + rest)


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_readers_of_structure_never_raise(data: bytes) -> None:
    assert 1 <= orientation(data) <= 8
    assert 1 <= orientation(b"Exif\0\0II*\0\x08\0\0\0" + data) <= 8
    for start in (b"", b"\xff\xd8\xff", SOURCES[0][:60]):
        layout = jpeg.read_layout(start + data)
        assert all(0 <= begin <= end for begin, end in layout.parts)
    with contextlib.suppress(Refusal):
        assert recognise(data) in Format


# Raw files and other guests in a TIFF


def tiff_with(**tags: int) -> bytes:
    from PIL.TiffImagePlugin import ImageFileDirectory_v2

    more = ImageFileDirectory_v2()
    for name, value in tags.items():
        more[int(name.removeprefix("t"))] = value
    return file(corners(), "TIFF", tiffinfo=more)


RAWS = {"dng": {"t50706": 1}, "nef": {"t254": 1, "t330": 8}}


@pytest.mark.parametrize("kind", RAWS)
def test_camera_raw_is_not_shown_by_its_preview(kind: str) -> None:
    assert "camera RAW" in refusal(tiff_with(**RAWS[kind])).what


def test_bombs_of_the_new_formats() -> None:
    bmp = bytearray(file(corners(), "BMP"))
    bmp[18:26] = struct.pack("<ii", 100_000, 100_000)
    assert "--max-megapixels" in refusal(bytes(bmp)).action
    small = ImageLimits(10**7, 1000, 64)
    for kind in ("TIFF", "AVIF", "HEIF", "BMP", "WEBP", "GIF", "PNG", "JPEG"):
        assert "--max-megapixels" in refusal(file(corners(), kind), small).action
