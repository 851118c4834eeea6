"""What Pillow warns of while it decodes a picture: into the log, under the picture's name, in any number of threads.

`warnings.catch_warnings` swaps the filters of the whole process, and where two threads overlap in it one's are left
behind. Here the process is told once; whose picture is being decoded is kept by thread.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import warnings
from collections.abc import Iterator
from typing import TextIO

from PIL import Image

logger = logging.getLogger(__name__)

_elsewhere = warnings.showwarning
_decoding = threading.local()
_setting = threading.Lock()


@contextlib.contextmanager
def logged_as(name: str) -> Iterator[None]:
    """Log Pillow's warnings of this thread as ``<name>: <warning>``; of the picture's size there are none."""
    _set_once()
    _decoding.name = name
    try:
        yield
    finally:
        _decoding.name = None


def _set_once() -> None:
    with _setting:
        # Again where something has put back what it found, as tests do; never over the hook of somebody else.
        if warnings.showwarning is _elsewhere:
            warnings.filterwarnings("always", module=r"PIL\.")  # else only the first picture's would be logged
            warnings.showwarning = _show


def _show(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    name = getattr(_decoding, "name", None)
    if name is None:
        _elsewhere(message, category, filename, lineno, file, line)
    elif not issubclass(category, Image.DecompressionBombWarning):  # for size, pictures have a limit of their own
        logger.warning("%s: %s", name, message)
