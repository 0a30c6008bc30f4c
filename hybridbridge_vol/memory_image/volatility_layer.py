"""The bytes of a source, or of a part of it, as a layer of Volatility's, on which its own layers can stand.

Importing this takes 0.3 s and more: Volatility is imported.
"""

from __future__ import annotations

from volatility3.framework import exceptions, interfaces

from hybridbridge_vol.memory_image.image_file import Source

_WINDOW = 1 << 16
"""Bytes read at once: Volatility's layers read headers of some bytes, one after the other."""


class SourceLayer(interfaces.layers.DataLayerInterface):  # type: ignore[misc]
    """See the module's text. Addresses are offsets in the source."""

    def __init__(self, context: interfaces.context.ContextInterface, name: str, source: Source) -> None:
        super().__init__(context, name, name)
        self._source = source
        self._window = 0, b""
        """Bytes read last, from an offset on."""

    @property
    def minimum_address(self) -> int:
        return 0

    @property
    def maximum_address(self) -> int:
        return self._source.size - 1

    def is_valid(self, offset: int, length: int = 1) -> bool:
        return length > 0 and 0 <= offset and offset + length <= self._source.size

    def read(self, offset: int, length: int, pad: bool = False) -> bytes:
        """InvalidAddressException, unless with `pad` zeros may stand behind the end."""
        data = self._bytes(offset, length) if length > 0 else b""
        if len(data) < length and not pad:
            raise exceptions.InvalidAddressException(self.name, offset + len(data), "behind the file's end")
        return data.ljust(length, b"\0")

    def _bytes(self, offset: int, length: int) -> bytes:
        if length > _WINDOW:
            return self._source.read_at(offset, length)
        start, window = self._window
        if not start <= offset <= offset + length <= start + len(window):
            start, window = self._window = offset, self._source.read_at(offset, _WINDOW)
        return window[offset - start : offset - start + length]

    def write(self, offset: int, data: bytes) -> None:
        raise NotImplementedError("images are only read")
