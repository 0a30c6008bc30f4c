"""hb.exec: a native program on the image, as a Volatility plugin."""

from volatility3.framework import interfaces

from hybridbridge_vol.native.exec_tool import TOOL
from hybridbridge_vol.volatility_plugin import ToolPlugin, described


class Exec(ToolPlugin, interfaces.plugins.PluginInterface):
    tool = TOOL
    __doc__ = described(TOOL)
    _version = (1, 0, 0)
    _required_framework_version = (2, 0, 0)
