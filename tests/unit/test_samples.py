"""Real files of other projects (tests/data), their pixels compared with references that are not ours."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pil

from backend.errors import ImageError
from backend.images import load_image
from backend.types import ImageLimits

DATA = Path(__file__).resolve().parents[1] / "data"
LIMITS = ImageLimits(max_bytes=20_000_000, max_pixels=64_000_000, longest_side=1540)
BROKEN = [
    "decompression_bomb.gif",
    "png_decompression_dos.png",
    "crash-2020-10-test.tif",
    "oom-225817ca0f8c663be7ab4b9e717b02c661e66834.tif",
]
TURNED = [f"hopper_orientation_{number}.jpg" for number in range(2, 9)]

# sRGB and Display P3 have one curve (IEC 61966-2-1); between their primaries (SMPTE EG 432-1) this leads.
P3_TO_SRGB = np.array(
    [[1.2249402, -0.2249402, 0.0], [-0.0420570, 1.0420570, 0.0], [-0.0196376, -0.0786361, 1.0982736]]
)


def ours(name: str) -> np.ndarray:
    image = load_image((DATA / name).read_bytes(), name, LIMITS)
    return np.asarray(Pil.open(io.BytesIO(image.data))).astype(int)


def theirs(name: str, mode: str | None = None) -> np.ndarray:
    with Pil.open(DATA / name) as picture:
        return np.asarray(picture.convert(mode) if mode else picture).astype(int)


def difference(one: np.ndarray, other: np.ndarray) -> float:
    """The mean of all samples, of 255."""
    assert one.shape == other.shape
    return float(np.abs(one - other).mean())


def test_every_file_is_small_and_has_a_source() -> None:
    sources = (DATA / "SOURCES.md").read_text(encoding="utf-8")
    for file in DATA.iterdir():
        assert file.stat().st_size < 20_000
        is_series = file.name in TURNED or file.name.startswith("oom-")
        assert is_series or f"`{file.name}`" in sources or file.name == "SOURCES.md", file.name


@pytest.mark.parametrize("name", [*TURNED, "hopper_orientation_6.webp", "hopper.heif", "hopper.avif"])
def test_each_turn_and_coding_of_one_photo_is_that_photo(name: str) -> None:
    upright, seen = theirs("hopper.jpg", "RGB"), ours(name)
    assert difference(seen, upright) < 6, "each was coded anew, which costs 5"
    for turns in (1, 2, 3):
        assert difference(np.rot90(seen, turns), upright) > 30
    assert difference(seen[:, ::-1], upright) > 30


def test_display_p3_becomes_srgb() -> None:
    raw = theirs("frame_size.mpo", "RGB") / 255
    linear = np.where(raw <= 0.04045, raw / 12.92, ((raw + 0.055) / 1.055) ** 2.4) @ P3_TO_SRGB.T
    linear = linear.clip(0, 1)
    srgb = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
    seen, wanted = ours("frame_size.mpo") - raw * 255, (srgb - raw) * 255
    assert difference(seen, wanted) < 2, "JPEG of quality 90, and rounding"
    # The photo has soft colours, which move by less than that noise: how far they went on the way to sRGB.
    assert 0.8 < (seen * wanted).sum() / (wanted * wanted).sum() < 1.2


def test_cmyk_of_a_jpeg_becomes_rgb() -> None:
    cmyk = theirs("pil_sample_cmyk.jpg")
    plain = (255 - cmyk[..., :3]) * (255 - cmyk[..., 3:]) / 255
    assert difference(ours("pil_sample_cmyk.jpg"), plain) < 3


def test_cmyk_of_a_tiff_becomes_rgb() -> None:
    assert ours("cmyk_u8_edge_case.tif").shape == (1, 1, 3)


@pytest.mark.parametrize("name", ["16bit.deflate.tif", "16bit.MM.deflate.tif"])
def test_16_bits_of_a_tiff_are_scaled_and_not_cut_off(name: str) -> None:
    wanted = np.repeat((theirs(name) / 257)[..., None], 3, axis=2)
    assert np.abs(ours(name) - wanted).max() <= 1


@pytest.mark.parametrize("name", ["basn2c16.png", "basi2c16.png", "basn6a16.png"])
def test_16_bits_of_a_png(name: str) -> None:
    samples = png16("basn2c16.png" if name == "basi2c16.png" else name)  # the same picture, interlaced
    alpha = samples[..., 3:] / 65535 if samples.shape[2] == 4 else 1.0
    wanted = (samples[..., :3] * alpha + 65535 * (1 - alpha)) / 257
    assert np.abs(ours(name) - wanted).max() <= 2


def png16(name: str) -> np.ndarray:
    """The samples of a 16-bit PNG without interlace, by its specification (W3C, PNG, 9.2)."""
    data = (DATA / name).read_bytes()
    packed, at = b"", 8
    while at < len(data):
        size, kind = struct.unpack(">I4s", data[at : at + 8])
        body = data[at + 8 : at + 8 + size]
        at += 12 + size
        if kind == b"IHDR":
            width, height, _, colour = struct.unpack(">IIBB", body[:10])
        packed += body if kind == b"IDAT" else b""
    pixel = {2: 6, 6: 8}[colour]
    stride = width * pixel
    rows = [bytes(stride)]
    filtered = zlib.decompress(packed)
    for start in range(0, len(filtered), stride + 1):
        above, row = rows[-1], bytearray(filtered[start + 1 : start + 1 + stride])
        for i in range(stride):
            left, up, corner = (
                (row[i - pixel], above[i], above[i - pixel]) if i >= pixel else (0, above[i], 0)
            )
            row[i] = (row[i] + _predicted(filtered[start], left, up, corner)) % 256
        rows.append(bytes(row))
    return np.frombuffer(b"".join(rows[1:]), ">u2").reshape(height, width, -1).astype(int)


def _predicted(kind: int, left: int, up: int, corner: int) -> int:
    guess = left + up - corner
    nearest = min((left, up, corner), key=lambda value: abs(guess - value))
    return (0, left, up, (left + up) // 2, nearest)[kind]


@pytest.mark.parametrize("name", BROKEN)
def test_bombs_and_damage_get_a_sentence(name: str) -> None:
    with pytest.raises(ImageError, match=r"is (damaged or incomplete|too large)|megapixels"):
        load_image((DATA / name).read_bytes(), name, LIMITS)


@pytest.mark.parametrize("name", ["invalid-exif.jpg", "badrle.bmp"])
def test_a_fault_beside_the_pixels_costs_no_picture(name: str) -> None:
    assert np.ptp(ours(name)) > 100


def test_transparency_of_a_palette_lies_over_white() -> None:
    seen = ours("tbbn3p08.png")  # asks for a black ground, which a chat does not have
    assert seen[0, 0].tolist() == [255, 255, 255]
