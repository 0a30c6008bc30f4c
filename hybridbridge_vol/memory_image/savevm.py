"""QEMU's saved states (savevm), read through Volatility's layer."""

from __future__ import annotations

from hybridbridge_vol.errors import ImageError
from hybridbridge_vol.memory_image.image_file import ImageFile, Source
from hybridbridge_vol.memory_image.physical import MAX_RUNS, Contents, PhysicalImage
from hybridbridge_vol.memory_image.ranges import merged
from hybridbridge_vol.memory_image.runs import Run
from hybridbridge_vol.memory_image.savevm_cpus import savevm_cpus

_NAME = "QEMU savevm"


def open_file(file: ImageFile) -> PhysicalImage:
    """The memory that the file holds. ImageError, OSError."""
    return PhysicalImage(file, parse_savevm(file.source, _NAME))


def parse_savevm(source: Source, format_name: str) -> Contents:
    """Read a state through Volatility's own layers: its stacker for this format, none for operating systems.
    ImageError."""
    if source.progress:
        source.progress(0.0, f"reading the {_NAME} file with Volatility's layer")
    # importing Volatility takes 0.3 s and more, and no other format needs it
    from volatility3.framework import contexts, interfaces
    from volatility3.framework.automagic import stacker
    from volatility3.framework.layers import qemu

    from hybridbridge_vol.memory_image.volatility_layer import SourceLayer

    unreadable = ImageError(
        f"{source.name}: Volatility cannot read this {_NAME} file; convert it to raw or LiME"
    )
    context = contexts.Context()
    context.add_layer(SourceLayer(context, "hb_base", source))
    try:
        result = stacker.LayerStacker.stack_layer(context, "hb_base", [qemu.QemuStacker], lambda *_args: None)
    except Exception:  # noqa: BLE001  damaged files, and machines that a layer does not know: each has errors of its own
        raise unreadable from None
    if not result:
        raise unreadable
    layer = context.layers[result[0]]  # the names of the layers, the topmost first
    if not isinstance(layer, interfaces.layers.DataLayerInterface) or layer.name == "hb_base":
        raise unreadable
    try:
        segments = getattr(layer, "_segments", None) or [(0, 0, layer.maximum_address + 1, 0)]
    except Exception:  # noqa: BLE001  a layer without any memory
        raise ImageError(
            f"{source.name}: Volatility finds no memory in this {_NAME} file; convert it to raw or LiME"
        ) from None
    ranges = sorted((segment[0], segment[2]) for segment in segments)  # one for each page or compressed block

    def read(paddr: int, size: int) -> bytes:
        try:
            return bytes(layer.read(paddr, size, pad=False))
        except Exception:  # noqa: BLE001  damaged blocks: each layer has errors of its own
            return b""

    runs = [Run(paddr, size, 0) for paddr, size in merged(ranges, MAX_RUNS)]
    return Contents(format_name, runs, (), read, cpus=savevm_cpus(source))
