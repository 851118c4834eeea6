"""Opening pictures: every pixel mode comes out as upright RGB, every bad file as an InputError."""

from __future__ import annotations

import io
import struct
import threading
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from ffaa.data import images
from ffaa.data.images import decode_image, find_images, inside, open_image, open_mask
from ffaa.types import InputError


def _encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _pattern(width: int = 24, height: int = 16) -> np.ndarray:
    rows, columns = np.mgrid[:height, :width]
    return np.stack([columns * 255 // width, rows * 255 // height, np.full_like(rows, 90)], axis=-1).astype(np.uint8)


def test_rgb_is_read_unchanged_and_without_metadata() -> None:
    pixels = _pattern()
    image = decode_image(_encoded(Image.fromarray(pixels), dpi=(72, 72)))
    assert image.mode == "RGB" and image.info == {}
    assert np.array_equal(np.asarray(image), pixels)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_exif_orientation_is_applied(orientation: int, kind: str) -> None:
    upright = np.zeros((16, 24, 3), np.uint8)
    upright[:8, :8] = 255  # the mark stands at the upper left of the upright picture
    inverse = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a, 1),
        7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
        8: lambda a: np.rot90(a, -1),
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.ascontiguousarray(inverse[orientation](upright)))
    image = decode_image(_encoded(stored, kind, exif=exif))
    assert image.size == (24, 16)
    assert np.abs(np.asarray(image).astype(int) - upright).mean() < 3


def test_sixteen_bit_grey_is_scaled_not_clipped(tmp_path: Path) -> None:
    values = np.array([[0, 257, 32768, 65535]], np.uint16).repeat(2, axis=0)
    for suffix in ("png", "tif", "pgm"):
        Image.fromarray(values).save(tmp_path / f"a.{suffix}")
        grey = np.asarray(open_image(tmp_path / f"a.{suffix}"))[0, :, 0]
        assert grey.tolist() == [0, 1, 128, 255], suffix


def test_wider_integers_and_floats_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.array([[70000, -1]], np.int32)).save(tmp_path / "a.tif")
    with pytest.raises(InputError, match="from -1 to 70000"):
        open_image(tmp_path / "a.tif")
    Image.fromarray(np.array([[0.5, 1.0]], np.float32)).save(tmp_path / "b.tif")
    with pytest.raises(InputError, match="floating point"):
        open_image(tmp_path / "b.tif")


def test_cmyk_one_bit_grey_and_palette() -> None:
    cmyk = decode_image(_encoded(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG", quality=95))
    red, green, blue = np.asarray(cmyk)[4, 4].tolist()
    assert red > 245 and green < 10 and blue < 10
    assert np.asarray(decode_image(_encoded(Image.new("1", (8, 8), 1)))).min() == 255
    assert np.asarray(decode_image(_encoded(Image.new("L", (8, 8), 77))))[0, 0].tolist() == [77, 77, 77]
    palette = Image.fromarray(_pattern()).quantize(16)
    expected = np.asarray(palette.convert("RGB"))
    assert np.array_equal(np.asarray(decode_image(_encoded(palette))), expected)


def test_transparency_is_laid_over_white() -> None:
    rgba = Image.new("RGBA", (4, 4), (200, 0, 0, 0))
    rgba.putpixel((1, 1), (200, 0, 0, 255))
    rgba.putpixel((2, 2), (0, 0, 0, 128))
    image = decode_image(_encoded(rgba))
    assert image.getpixel((0, 0)) == (255, 255, 255)
    assert image.getpixel((1, 1)) == (200, 0, 0)
    assert image.getpixel((2, 2)) == (127, 127, 127)
    palette = Image.new("P", (4, 4), 0)
    palette.putpalette([0, 0, 0, 10, 20, 30])
    palette.putpixel((1, 1), 1)
    image = decode_image(_encoded(palette, transparency=0))
    assert image.getpixel((0, 0)) == (255, 255, 255) and image.getpixel((1, 1)) == (10, 20, 30)
    assert decode_image(_encoded(Image.new("LA", (4, 4), (9, 0)))).getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_the_first_frame_of_an_animation(kind: str) -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("white", "black")]
    image = decode_image(_encoded(frames[0], kind, save_all=True, append_images=frames[1:]))
    assert np.asarray(image).min() > 250


def _wide_gamut_profile() -> bytes:
    """An sRGB profile whose red and green primaries are swapped: plainly another colour space."""
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    entries = {
        bytes(data[132 + 12 * i : 136 + 12 * i]): 132 + 12 * i for i in range(struct.unpack(">I", data[128:132])[0])
    }
    red, green = entries[b"rXYZ"], entries[b"gXYZ"]
    data[red + 4 : red + 12], data[green + 4 : green + 12] = data[green + 4 : green + 12], data[red + 4 : red + 12]
    return bytes(data).replace("sRGB".encode("utf-16-be"), "swap".encode("utf-16-be"))


def test_colour_profiles(caplog: pytest.LogCaptureFixture) -> None:
    red = Image.new("RGB", (4, 4), (255, 0, 0))
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert decode_image(_encoded(red, icc_profile=srgb)).getpixel((0, 0)) == (255, 0, 0)
    pixel = decode_image(_encoded(red, icc_profile=_wide_gamut_profile())).getpixel((0, 0))
    assert isinstance(pixel, tuple) and pixel[1] > 250 and pixel[0] < 5
    assert not caplog.records
    assert decode_image(_encoded(red, icc_profile=b"no profile")).getpixel((0, 0)) == (255, 0, 0)
    assert "profile" in caplog.text
    assert decode_image(_encoded(Image.new("L", (4, 4), 9), icc_profile=srgb)).getpixel((0, 0)) == (9, 9, 9)


def test_damaged_exif_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    data = _encoded(Image.new("RGB", (8, 8)), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\x01\x12")
    assert decode_image(data, "photo.jpg").size == (8, 8)
    assert "photo.jpg: Corrupt EXIF data" in caplog.text


def test_threads_log_under_their_own_names_and_leave_the_filters(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = _encoded(Image.new("RGB", (8, 8)), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\x01\x12")
    decode_image(data, "before.jpg")
    filters, shown = list(warnings.filters), warnings.showwarning
    both, over = threading.Barrier(2), threading.Event()
    loaded = images._loaded

    def overlapping(data: bytes, name: str) -> Image.Image:
        both.wait(timeout=60)
        if name == "b.jpg":
            assert over.wait(timeout=60)
        return loaded(data, name)

    monkeypatch.setattr(images, "_loaded", overlapping)
    with ThreadPoolExecutor(2) as pool:
        first, second = (pool.submit(decode_image, data, name) for name in ("a.jpg", "b.jpg"))
        first.result(timeout=60)
        over.set()
        second.result(timeout=60)
    assert warnings.filters == filters and warnings.showwarning is shown
    for name in ("before.jpg", "a.jpg", "b.jpg"):
        assert f"{name}: Corrupt EXIF data" in caplog.text


def test_warnings_of_others_are_shown_as_ever(recwarn: pytest.WarningsRecorder) -> None:
    decode_image(_encoded(Image.new("RGB", (8, 8))))
    warnings.warn("mine", UserWarning, stacklevel=1)
    assert [str(warning.message) for warning in recwarn.list] == ["mine"]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_truncated_files(kind: str, share: float) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    data = _encoded(Image.fromarray(noise), kind)
    with pytest.raises(InputError, match="damaged|truncated|not a picture"):
        decode_image(data[: int(len(data) * share)])


def test_any_damage_gives_a_picture_or_an_input_error() -> None:
    rng = np.random.default_rng(1)
    for kind in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM"):
        data = np.frombuffer(_encoded(Image.fromarray(_pattern()), kind), np.uint8)
        for _ in range(60):
            bad = data.copy()
            where = rng.integers(0, len(bad), rng.integers(1, 12))
            bad[where] = rng.integers(0, 256, len(where))
            try:
                assert decode_image(bad.tobytes()).mode == "RGB"
            except InputError:
                continue


def _png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 64)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [10_001, 12_000, 60_000])
def test_decompression_bombs_are_refused_before_decoding(side: int, recwarn: pytest.WarningsRecorder) -> None:
    with pytest.raises(InputError, match=f"{side}x{side} pixels|too large"):
        decode_image(_png_header(side, side))
    assert not recwarn.list


def test_files_that_are_no_pictures(tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("hello")
    (tmp_path / "script.eps").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\nshowpage\n")
    for name, message in {
        "absent.jpg": "no such file",
        "": "a folder",
        "empty.jpg": "empty",
        "text.jpg": "not a picture",
        "script.eps": "not a picture",
        "a\0b": "cannot read",
        "x" * 300: "cannot read",
    }.items():
        with pytest.raises(InputError, match=message) as caught:
            open_image(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_masks_are_shares(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 51, 255]], np.uint8)).save(tmp_path / "m.png")
    mask = open_mask(tmp_path / "m.png")
    assert mask.dtype == np.float32
    assert np.allclose(mask, [[0, 0.2, 1]])


def test_find_images(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no picture"):
        find_images(tmp_path)
    for name in ("b.JPG", "a.png", "notes.txt"):
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    assert [p.name for p in find_images(tmp_path)] == ["a.png", "b.JPG"]
    with pytest.raises(InputError, match="no such folder"):
        find_images(tmp_path / "absent")


def test_inside(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "sub").mkdir(parents=True)
    (tmp_path / "secret.png").touch()
    (root / "out.png").symlink_to(tmp_path / "secret.png")
    (root / "up").symlink_to(tmp_path)
    (root / "loop").symlink_to(root / "loop")
    (root / "sub" / "in.png").symlink_to(root / "a.png")
    (tmp_path / "alias").symlink_to(root)
    assert inside(root, "a.png") == root / "a.png"
    assert inside(root, "sub/in.png") == root / "a.png"
    assert inside(tmp_path / "alias", "a.png") == root / "a.png"
    assert inside(root, "..a/b..png") == root / "..a" / "b..png"
    bad = ["", ".", "/etc/passwd", "../secret.png", "sub/../../secret.png", "out.png", "up/secret.png", "a\0b"]
    for relative in [*bad, "C:\\x.png", "..\\secret.png", "loop"]:
        with pytest.raises(InputError):
            inside(root, relative)
