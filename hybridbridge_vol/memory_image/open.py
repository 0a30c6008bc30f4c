"""Opening a memory image of any format.

Nothing is read here but headers: a PhysicalImage reads what it is asked for. The parsers are our own, but for
QEMU's saved states: importing Volatility costs more time than all the rest of a run.

A compressed raw image is not unpacked on the fly but named, with the command that unpacks it: pages are asked
for all over the file, so every run of every tool would unpack all of it again, minutes for an answer that
takes 0.3 s from the unpacked file, and would hide a second copy of the machine's memory in a temporary folder
that may lack the room.
"""

from __future__ import annotations

from pathlib import Path

from hybridbridge_vol.errors import ImageError
from hybridbridge_vol.memory_image.foreign_files import refuse_foreign
from hybridbridge_vol.memory_image.formats import FORMATS
from hybridbridge_vol.memory_image.image_file import ImageFile
from hybridbridge_vol.memory_image.physical import PhysicalImage
from hybridbridge_vol.units import Progress


def open_image(path: Path | str, progress: Progress | None = None) -> PhysicalImage:
    """Open a memory image of any format. ImageError, in one line, if the file is not one."""
    file = ImageFile(Path(path), progress)
    try:
        refuse_foreign(file)
        return next(each for each in FORMATS if each.recognizes(file)).open_file(file)
    except OSError as error:
        file.close()
        raise ImageError(f"{path}: cannot be read ({error.strerror})") from None
    except BaseException:
        file.close()
        raise
