"""hb.files: the tool of that name as a Volatility plugin, which takes part in timeliner.Timeliner."""

from volatility3.framework import interfaces
from volatility3.plugins import timeliner

from hybridbridge_vol import tools
from hybridbridge_vol.volatility_plugin import TimedPlugin, described


class Files(TimedPlugin, interfaces.plugins.PluginInterface, timeliner.TimeLinerInterface):
    tool = tools.load("files")
    sources = ("files",)
    __doc__ = described(tool)
    _version = (1, 0, 0)
    _required_framework_version = (2, 0, 0)
