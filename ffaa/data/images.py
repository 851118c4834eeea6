"""The only place that opens pictures: whatever the file holds comes out as upright 8-bit RGB, or as an `InputError`."""

from __future__ import annotations

import functools
import io
import logging
import struct
import zlib
from pathlib import Path, PureWindowsPath

import numpy as np
from PIL import Image, ImageCms, UnidentifiedImageError

from ffaa.data.decoder_warnings import logged_as
from ffaa.types import InputError

logger = logging.getLogger(__name__)

MAX_PIXELS = 100_000_000
"""Pictures of more pixels are refused before they are decoded (300 MB as RGB)."""

_FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "JPEG2000", "AVIF")
"""Decoders that may run. A list, because Pillow would hand EPS files to Ghostscript. Pillow below 11.3 has no AVIF."""

SUFFIXES = frozenset(".jpg .jpeg .jpe .png .webp .bmp .gif .tif .tiff .pgm .ppm .pbm .pnm .jp2 .j2k .avif .mpo".split())
"""File names that `find_images` takes for pictures (lower case)."""

_DECODER_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    LookupError,
    TypeError,
    ArithmeticError,
    EOFError,
    RuntimeError,
    struct.error,
    zlib.error,
)
"""What Pillow's decoders raise on damaged files; they promise no common class."""

_ORIENTATIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What to do for each value of the EXIF tag Orientation (0x0112); 1 is upright."""


def open_image(path: str | Path) -> Image.Image:
    """Read a picture as upright RGB.

    - The EXIF orientation is applied. Of an animation the first frame is taken.
    - 16-bit grey is scaled to 8 bit, not clipped.
    - Transparency is laid over white, as a page or browser shows it: the colour below transparent pixels is undefined.
    - An embedded colour profile other than sRGB is converted to sRGB (without it, CMYK prints and wide-gamut phone
      pictures have wrong colours); a profile that cannot be read is logged and left out.

    Raises `InputError`: no such file, a folder, empty, not a picture, damaged or truncated, more than `MAX_PIXELS`.
    """
    file = Path(path)
    try:
        data = file.read_bytes()
    except FileNotFoundError:
        raise InputError(f"no such file: {file}") from None
    except IsADirectoryError:
        raise InputError(f"a folder, not a picture: {file}") from None
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {file}: {error}") from error
    return decode_image(data, str(file))


def decode_image(data: bytes, name: str = "picture") -> Image.Image:
    """As `open_image` for the bytes of a file; ``name`` stands in messages."""
    if not data:
        raise InputError(f"the file is empty: {name}")
    with logged_as(name):
        return _upright_rgb(_loaded(data, name), name)


def open_mask(path: str | Path) -> np.ndarray:
    """Read a mask as float32 (H, W), 0 (untouched) to 1 (forged). Raises `InputError` as `open_image` does."""
    return np.asarray(open_image(path).convert("L"), dtype=np.float32) / 255


def find_images(folder: str | Path) -> list[Path]:
    """The pictures directly in a folder, by name suffix, sorted. Raises `InputError` when there is none."""
    root = Path(folder)
    if not root.is_dir():
        raise InputError(f"no such folder: {root}")
    found = sorted(p for p in root.iterdir() if p.suffix.lower() in SUFFIXES and p.is_file())
    if not found:
        raise InputError(f"no picture in the folder {root}")
    return found


def inside(root: Path, relative: str) -> Path:
    """The file ``relative`` below the folder ``root``, resolved; it need not exist.

    ``root`` itself may be a link. Raises `InputError` where the path is empty or absolute, goes up by ``..``, or
    leaves the folder by a symbolic link.
    """
    path = Path(relative)
    if not relative or path == Path() or "\0" in relative:
        raise InputError(f"{relative!r} names no file")
    if path.is_absolute() or PureWindowsPath(relative).anchor:
        raise InputError(f"{relative!r} is absolute; paths must be relative to {root}")
    if ".." in path.parts or ".." in PureWindowsPath(relative).parts:
        raise InputError(f"{relative!r} leaves the folder {root}")
    try:
        folder = root.resolve()
        resolved = (folder / path).resolve()
        resolved.exists()  # refuses names that are too long
    except (OSError, RuntimeError, UnicodeEncodeError) as error:  # RuntimeError: a loop of links
        raise InputError(f"{relative!r} cannot be resolved below {root}: {error}") from error
    if not resolved.is_relative_to(folder):
        raise InputError(f"{relative!r} leaves the folder {root} by a symbolic link")
    return resolved


def _loaded(data: bytes, name: str) -> Image.Image:
    """The first frame as it is stored, decoded to its end."""
    try:
        image: Image.Image = Image.open(io.BytesIO(data), formats=_decoders())
        _check_size(image, name)
        image.load()
    except Image.DecompressionBombError as error:
        raise InputError(f"the picture is too large: {name}: {error}") from error
    except UnidentifiedImageError:
        raise InputError(f"not a picture of a known format: {name}") from None
    except _DECODER_ERRORS as error:
        raise InputError(f"the picture is damaged or truncated: {name}: {error}") from error
    return image


def _upright_rgb(image: Image.Image, name: str) -> Image.Image:
    """A loaded picture as it is meant to be seen, without metadata."""
    try:
        rgb = _to_srgb(_opaque(image), image.info.get("icc_profile"), name)
    except _DECODER_ERRORS as error:
        raise InputError(f"pixels of mode {image.mode} cannot be turned into RGB: {name}: {error}") from error
    turn = _ORIENTATIONS.get(_orientation(image, name))
    upright = rgb if turn is None else rgb.transpose(turn)
    upright.info = {}
    return upright


@functools.cache
def _decoders() -> tuple[str, ...]:
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


def _check_size(image: Image.Image, name: str) -> None:
    width, height = image.size
    if width < 1 or height < 1 or width * height > MAX_PIXELS:
        raise InputError(f"the picture has {width}x{height} pixels, at most {MAX_PIXELS} are allowed: {name}")


def _opaque(image: Image.Image) -> Image.Image:
    """A loaded picture of any mode as RGB, L or CMYK of 8 bits without transparency."""
    if image.mode.startswith("I"):
        return _eight_bit(image)
    if image.mode == "F":
        raise ValueError("floating point pixels have no fixed range")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image if image.mode in ("RGB", "L", "CMYK") else image.convert("RGB")


def _eight_bit(image: Image.Image) -> Image.Image:
    """16-bit grey as 8-bit grey, rounded."""
    values = np.asarray(image).astype(np.float64)
    bits = dict(getattr(image, "tag_v2", {})).get(258, (16,))[0]  # TIFF BitsPerSample: scanners write 12, too
    top = 2.0**bits - 1 if bits in (12, 16) else 65535.0
    if values.min() < 0 or values.max() > top:
        raise ValueError(f"values from {values.min():.0f} to {values.max():.0f}, not 0 to {top:.0f}")
    return Image.fromarray(np.round(values * (255 / top)).astype(np.uint8))


def _to_srgb(image: Image.Image, profile_data: bytes | None, name: str) -> Image.Image:
    """An RGB, L or CMYK picture as RGB, through its embedded profile where that is another than sRGB."""
    if not profile_data:
        return image.convert("RGB")
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(profile_data))
        space = profile.profile.xcolor_space.strip()
        described = profile.profile.profile_description or ""
        if space != {"RGB": "RGB", "L": "GRAY", "CMYK": "CMYK"}[image.mode] or "sRGB" in described:
            return image.convert("RGB")
        converted = ImageCms.profileToProfile(image, profile, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError) as error:
        logger.warning("%s: its colour profile cannot be read and is left out: %s", name, error)
        return image.convert("RGB")
    if converted is None:
        raise ValueError("the colour profile gave no picture")
    return converted


def _orientation(image: Image.Image, name: str) -> int:
    """The EXIF orientation, 1 (upright) where there is none or where the EXIF data is damaged."""
    try:
        return int(image.getexif().get(0x0112, 1))
    except _DECODER_ERRORS as error:
        logger.warning("%s: its EXIF data cannot be read, the picture is taken as upright: %s", name, error)
        return 1
