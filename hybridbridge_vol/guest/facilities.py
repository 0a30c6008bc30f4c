"""The facilities of a session (`guest.kernel`), each made, and its code loaded, when first asked for."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from hybridbridge_vol.errors import AttachError, CallRolledBack
from hybridbridge_vol.guest.clocks import SnapshotClocks
from hybridbridge_vol.guest.mounting import Mounts
from hybridbridge_vol.guest.proxy_calls import ProxyCalls
from hybridbridge_vol.guest.system import SnapshotSystem

if TYPE_CHECKING:
    from hybridbridge_vol.guest.added_modules import AddedModules
    from hybridbridge_vol.guest.addresses import SnapshotAddresses
    from hybridbridge_vol.guest.all_files import GuestFiles
    from hybridbridge_vol.guest.bpf_objects import SnapshotBpf
    from hybridbridge_vol.guest.cpus import SnapshotCpus
    from hybridbridge_vol.guest.device_answers import SnapshotDevices
    from hybridbridge_vol.guest.device_mapper import SnapshotDeviceMapper
    from hybridbridge_vol.guest.inodes import SnapshotInodes
    from hybridbridge_vol.guest.keyrings import SnapshotKeyrings
    from hybridbridge_vol.guest.netlink_tables import SnapshotNetlink
    from hybridbridge_vol.guest.packet_tables import SnapshotPacketTables
    from hybridbridge_vol.guest.queues import SnapshotQueues
    from hybridbridge_vol.guest.registers import SnapshotThreads
    from hybridbridge_vol.guest.route_tables import SnapshotRouteTables
    from hybridbridge_vol.guest.socket_tables import SnapshotSocketTables
    from hybridbridge_vol.guest.tasks import SnapshotTasks
    from hybridbridge_vol.guest.workers import SnapshotWorkers


class Facilities:
    """See the module's text. `process` is the folder in /proc of the process at whose root directory paths
    begin, `processors` how many may work at once (None: all that this process may run on)."""

    def __init__(self, calls: ProxyCalls, process: str, processors: int | None) -> None:
        self._calls = calls
        self._mounts = Mounts(calls.caller)
        self._process = process
        self._processors = processors
        self.system = SnapshotSystem(calls)
        self.clocks = SnapshotClocks(calls)

    @cached_property
    def proxy(self) -> ProxyCalls:
        """The system calls, for what lives on the snapshot's /proc, which is mounted first: an answer about
        the whole machine needs neither. AttachError if it cannot be mounted.

        Whatever opens sockets of ours needs it too: calls are rolled back to the last mount, which therefore
        comes before them.
        """
        try:
            self._mounts.reach("/proc")
        except CallRolledBack as error:
            raise AttachError(
                f"{self._calls.bridge.image.path}: the snapshot's /proc cannot be reached: {error.reason}"
            ) from None
        return self._calls

    @cached_property
    def _file_parts(self) -> tuple[GuestFiles, SnapshotInodes]:
        from hybridbridge_vol.guest.all_files import assemble_files  # 12 ms, with all that it brings

        return assemble_files(self.proxy, self._mounts, self._process)

    @property
    def files(self) -> GuestFiles:
        """The files of the guest."""
        return self._file_parts[0]

    @property
    def inodes(self) -> SnapshotInodes:
        """The inodes that the kernel holds."""
        return self._file_parts[1]

    @cached_property
    def tasks(self) -> SnapshotTasks:
        """Searches for processes that do not go through /proc."""
        from hybridbridge_vol.guest.tasks import SnapshotTasks  # 1 ms, and few tools ask it

        files = self.files.of_the_kernel
        return SnapshotTasks(self.proxy, lambda: files.may_ask_together)

    @cached_property
    def cpus(self) -> SnapshotCpus:
        """The processors."""
        from hybridbridge_vol.guest.cpus import SnapshotCpus  # as above

        return SnapshotCpus(self.proxy)

    @cached_property
    def threads(self) -> SnapshotThreads:
        """The registers of threads."""
        from hybridbridge_vol.guest.registers import SnapshotThreads  # as above

        return SnapshotThreads(self.proxy, self.cpus)

    @cached_property
    def addresses(self) -> SnapshotAddresses:
        """What lies at an address."""
        from hybridbridge_vol.guest.addresses import SnapshotAddresses  # as above

        return SnapshotAddresses(self.proxy, lambda: self.files.of_the_kernel.may_ask_together)

    @cached_property
    def devices(self) -> SnapshotDevices:
        """Registers of devices."""
        from hybridbridge_vol.guest.device_answers import SnapshotDevices  # as above

        return SnapshotDevices(self._calls.caller, self.files.of_the_kernel)

    @cached_property
    def workers(self) -> SnapshotWorkers:
        """Several processors at one question."""
        from hybridbridge_vol.guest.forked_workers import processors
        from hybridbridge_vol.guest.workers import SnapshotWorkers  # 3 ms, as above

        return SnapshotWorkers(self._calls.caller.hybrid, self._processors or processors())

    @cached_property
    def routes(self) -> SnapshotRouteTables:
        """The routing tables."""
        from hybridbridge_vol.guest.route_tables import SnapshotRouteTables  # 3 ms, and few tools ask it

        return SnapshotRouteTables(self.proxy)

    @cached_property
    def sockets(self) -> SnapshotSocketTables:
        """The sockets that sock_diag lists, and the state of single ones."""
        from hybridbridge_vol.guest.socket_tables import SnapshotSocketTables  # as above

        return SnapshotSocketTables(self.proxy, self.files, self._added_modules)

    @cached_property
    def _added_modules(self) -> AddedModules:
        from hybridbridge_vol.guest.added_modules import AddedModules  # as above

        return AddedModules(self.proxy)

    @cached_property
    def netlink(self) -> SnapshotNetlink:
        """Any netlink protocol."""
        from hybridbridge_vol.guest.netlink_tables import SnapshotNetlink  # as above

        return SnapshotNetlink(self.proxy, self.files.of_the_kernel, self._added_modules)

    @cached_property
    def packet_tables(self) -> SnapshotPacketTables:
        """The tables of iptables."""
        from hybridbridge_vol.guest.packet_tables import SnapshotPacketTables  # as above

        return SnapshotPacketTables(self.proxy)

    @cached_property
    def bpf(self) -> SnapshotBpf:
        """eBPF programs, maps, links and types."""
        from hybridbridge_vol.guest.bpf_objects import SnapshotBpf  # as above

        return SnapshotBpf(self.proxy, self.files)

    @cached_property
    def keyrings(self) -> SnapshotKeyrings:
        """The keys that the kernel keeps."""
        from hybridbridge_vol.guest.keyrings import SnapshotKeyrings  # as above

        return SnapshotKeyrings(self.proxy)

    @cached_property
    def device_mapper(self) -> SnapshotDeviceMapper:
        """The tables of the device mapper."""
        from hybridbridge_vol.guest.device_mapper import SnapshotDeviceMapper  # as above

        return SnapshotDeviceMapper(self.proxy, self.files)

    @cached_property
    def queues(self) -> SnapshotQueues:
        """Data that nobody has read yet."""
        from hybridbridge_vol.guest.queues import SnapshotQueues  # as above

        return SnapshotQueues(self.proxy, self.files)
