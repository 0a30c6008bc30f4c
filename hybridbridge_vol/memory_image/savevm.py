"""QEMU's saved states, read through Volatility's layer."""

from __future__ import annotations

from pathlib import Path

from hybridbridge_vol.errors import ImageError
from hybridbridge_vol.memory_image.physical import MAX_RUNS, PhysicalImage, Run
from hybridbridge_vol.units import Progress


def open_with_volatility(path: Path, fd: int, name: str, progress: Progress | None) -> PhysicalImage:
    """Read the image through Volatility's own layers: its stackers for file formats, none for operating
    systems."""
    if progress:
        progress(0.0, f"reading the {name} file with Volatility's layer")
    from volatility3.framework import contexts, interfaces
    from volatility3.framework.automagic import stacker
    from volatility3.framework.layers import physical, qemu

    from hybridbridge_vol.memory_image.kdump import merged

    context = contexts.Context()
    context.config["hb.base.location"] = path.resolve().as_uri()
    base = physical.FileLayer(context, "hb.base", "hb_base")
    context.add_layer(base)
    try:
        result = stacker.LayerStacker.stack_layer(context, "hb_base", [qemu.QemuStacker], lambda *_args: None)
    except Exception:  # noqa: BLE001  damaged files, and machines that a layer does not know: each has errors of its own
        result = None
    if not result:
        raise ImageError(f"{path}: Volatility cannot read this {name} file; convert it to raw or LiME")
    layer = context.layers[result[0]]  # the names of the layers, the topmost first
    if not isinstance(layer, interfaces.layers.DataLayerInterface) or layer.name == "hb_base":
        raise ImageError(f"{path}: Volatility cannot read this {name} file; convert it to raw or LiME")
    try:
        segments = getattr(layer, "_segments", None) or [(0, 0, layer.maximum_address + 1, 0)]
    except Exception:  # noqa: BLE001  a layer without any memory
        raise ImageError(
            f"{path}: Volatility finds no memory in this {name} file; convert it to raw or LiME"
        ) from None
    ranges = sorted((segment[0], segment[2]) for segment in segments)  # one for each page or compressed block
    runs = [Run(paddr, size, 0) for paddr, size in merged(ranges, MAX_RUNS)]

    def read(paddr: int, size: int) -> bytes:
        try:
            return bytes(layer.read(paddr, size, pad=False))
        except Exception:  # noqa: BLE001  damaged blocks: each layer has errors of its own
            return b""

    return PhysicalImage(path, fd, name, runs, (), read)
