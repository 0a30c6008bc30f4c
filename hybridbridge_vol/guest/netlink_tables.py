"""Answers of any netlink protocol of the snapshot's kernel: netfilter, xfrm, generic netlink, rtnetlink."""

from __future__ import annotations

from hybridbridge_vol.guest.added_modules import AddedModules
from hybridbridge_vol.guest.kernel import KernelFiles
from hybridbridge_vol.guest.netlink_dumps import NetlinkDumps
from hybridbridge_vol.guest.proxy_calls import ProxyCalls
from hybridbridge_vol.guest.values import PartialFile
from hybridbridge_vol.netlink.requests import NetlinkRequest


class SnapshotNetlink:
    """Implements `guest.kernel_network.Netlink`."""

    def __init__(self, proxy: ProxyCalls, files: KernelFiles, modules: AddedModules) -> None:
        self._proxy = proxy
        self._files = files
        self._modules = modules
        self._dumps: dict[int, NetlinkDumps] = {}

    def dump(self, request: NetlinkRequest, net_of: int | None = None) -> bytes:
        """See `guest.kernel_network.Netlink`."""
        if not self.prepare(request):
            return b""
        dumps = self._dumps.setdefault(request.protocol, NetlinkDumps(self._proxy, request.protocol))
        return dumps.dump(request.source, request.kind, request.body, net_of, request.is_list)

    def prepare(self, request: NetlinkRequest) -> bool:
        """Add the modules that answer a request where the guest had not loaded them. Whether there is
        anything to be asked for. OSError, CallRolledBack."""
        if request.needs and not self._is_there(request):
            return False
        for module in request.modules:
            if self._proxy.bridge.space.modules.has_file(module):  # else it is built in, or missing
                self._modules.need(module)
        return True

    def _is_there(self, request: NetlinkRequest) -> bool:
        """Whether the guest had loaded what a request needs. OSError or CallRolledBack if the kernel's
        list of modules cannot be read: then nobody knows."""
        bridge = self._proxy.bridge
        if bridge.space.modules.is_listed(request.needs):
            return True
        try:
            bridge.snapshot(request.built_in)
        except KeyError:
            if "modules" not in bridge.kernel.symbols:  # then it can have none
                return False
            try:
                return _names(self._files.read("/proc/modules"), request.needs)
            except PartialFile as error:
                if not _names(error.partial, request.needs):
                    raise
        return True


def _names(modules: bytes, name: str) -> bool:
    """Whether /proc/modules has a module."""
    return any(line.split(b" ")[0] == name.encode() for line in modules.splitlines())
