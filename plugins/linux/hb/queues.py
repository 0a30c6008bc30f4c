"""hb.queues: the tool of that name as a Volatility plugin."""

from volatility3.framework import interfaces

from hybridbridge_vol import tools
from hybridbridge_vol.volatility_plugin import ToolPlugin, described


class Queues(ToolPlugin, interfaces.plugins.PluginInterface):
    tool = tools.load("queues")
    __doc__ = described(tool)
    _version = (1, 0, 0)
    _required_framework_version = (2, 0, 0)
