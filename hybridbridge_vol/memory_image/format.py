"""What a file format of memory images is to `open_image`."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from hybridbridge_vol.memory_image.image_file import ImageFile
from hybridbridge_vol.memory_image.physical import PhysicalImage


class Format(NamedTuple):
    """`recognizes` looks at the head and the name of a file only. `open_file` raises ImageError or OSError,
    and leaves closing the file to its caller then."""

    recognizes: Callable[[ImageFile], bool]
    open_file: Callable[[ImageFile], PhysicalImage]
