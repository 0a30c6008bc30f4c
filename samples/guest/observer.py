"""Records what the guest says of itself, twice, hands it out of the guest, and freezes the machine.

Output: records of (name, status, data) with little-endian 32-bit lengths, into the shared memory of an ivshmem
device; status is 0 or an errno. The machine stops at the write to the pvpanic device, the very last instruction.
"""

import mmap
import os
import time

READ_LIMIT = 8 << 20
SKIP = {"/proc/kmsg", "/proc/kcore", "/proc/kpagecount", "/proc/kpageflags", "/proc/kpagecgroup", "/proc/sysrq-trigger", "/proc/acpi/event", "/proc/kallsyms"}
SKIP_NAMES = {"mem", "pagemap", "clear_refs", "map_files", "task", "ns", "fd", "fdinfo", "cwd", "root", "exe", "net", "attr", "timers", "stack"}
COMMANDS = [
    "ps -ef", "ps aux", "ps -eLf", "ps -eww -o pid,ppid,uid,stat,lstart,etimes,nlwp,comm,args",
    "lsmod", "uname -a", "hostname", "uptime", "free", "netstat -tulpan", "ss -tuanp", "dmesg", "ip addr", "ip neigh", "mount",
]
PROC_DIRECTORIES = ["/proc/net", "/proc/sys/kernel", "/proc/sys/vm", "/proc/sys/net/ipv4", "/proc/driver", "/proc/tty", "/proc/fs", "/proc/irq"]
SYS_FILES = ["/sys/kernel/uevent_seqnum", "/sys/kernel/profiling", "/sys/kernel/fscaps", "/sys/kernel/notes", "/sys/power/state"]
SYS_DIRECTORIES = ["/sys/kernel/mm/transparent_hugepage", "/sys/module/loop/parameters", "/sys/class/net/lo", "/sys/class/net/dummy0", "/sys/devices/system/cpu", "/sys/devices/system/clocksource/clocksource0", "/sys/module/bridge", "/sys/module/dummy"]
PIPE_READ = 65536


def read(path):
    """(status, data) of one file."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError as error:
        return error.errno, b""
    parts = []
    try:
        size = 0
        while size < READ_LIMIT:
            part = os.read(fd, 65536)
            if not part:
                break
            parts.append(part)
            size += len(part)
    except OSError as error:
        return error.errno, b""
    finally:
        os.close(fd)
    return 0, b"".join(parts)


def plain_files(folder, depth=0):
    """Files below a folder that a process may have, links not followed."""
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        return
    for entry in entries:
        if entry.is_symlink():
            continue
        if entry.is_dir(follow_symlinks=False):
            if depth:
                yield from plain_files(entry.path, depth - 1)
        elif entry.path not in SKIP:
            yield entry.path


def paths():
    """Every path that is recorded, those that move last."""
    for path in SYS_FILES:
        yield path
    for folder in SYS_DIRECTORIES:
        yield from plain_files(folder)
    for folder in PROC_DIRECTORIES:
        yield from plain_files(folder, 1)
    pids = [name for name in os.listdir("/proc") if name.isdigit() and name != str(os.getpid())]
    for pid in pids:
        for name in sorted(os.listdir("/proc/" + pid)):
            path = "/proc/%s/%s" % (pid, name)
            if name not in SKIP_NAMES:
                yield path
        for task in os.listdir("/proc/%s/task" % pid):
            if task != pid:
                for name in ("stat", "status", "comm"):
                    yield "/proc/%s/task/%s/%s" % (pid, task, name)
    yield from plain_files("/proc")


def links():
    for pid in os.listdir("/proc"):
        if pid.isdigit():
            for name in ("exe", "cwd", "root"):
                yield "/proc/%s/%s" % (pid, name)
            for folder in ("fd", "ns"):
                try:
                    for name in os.listdir("/proc/%s/%s" % (pid, folder)):
                        yield "/proc/%s/%s/%s" % (pid, folder, name)
                except OSError:
                    pass


def run(command):
    """(status, standard output) of a program."""
    arguments = command.split()
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.dup2(writing, 1)
        os.close(reading)
        os.environ["COLUMNS"] = "100000"
        try:
            os.execvp(arguments[0], arguments)
        except OSError as error:
            os._exit(error.errno)
    os.close(writing)
    parts = []
    while True:
        part = os.read(reading, PIPE_READ)
        if not part:
            break
        parts.append(part)
    os.close(reading)
    status = os.waitpid(pid, 0)[1]
    return status >> 8, b"".join(parts)


def device_memory(vendor, device, resource):
    """A PCI device's memory, mapped."""
    for name in os.listdir("/sys/bus/pci/devices"):
        folder = "/sys/bus/pci/devices/%s/" % name
        if open(folder + "vendor").read().strip() == vendor and open(folder + "device").read().strip() == device:
            with open(folder + "enable", "w") as enable:
                enable.write("1")
            fd = os.open(folder + "resource%d" % resource, os.O_RDWR)
            return mmap.mmap(fd, os.fstat(fd).st_size)
    raise SystemExit("observer: no PCI device %s:%s" % (vendor, device))


def record(kind, name, status, data):
    name = (kind + ":" + name).encode("utf-8", "surrogateescape")
    return b"".join((len(name).to_bytes(4, "little"), status.to_bytes(4, "little"), len(data).to_bytes(4, "little"), name, data))


def append(shared, start, data):
    """Copy into the shared memory; where the next data goes."""
    shared[start : start + len(data)] = data
    return start + len(data)


def main():
    with open("/proc/self/comm", "w") as comm:
        comm.write("observer")
    shared = device_memory("0x1af4", "0x1110", 2)  # ivshmem
    panic = device_memory("0x1b36", "0x0011", 0)  # pvpanic-pci
    out = []
    for command in COMMANDS:
        status, data = run(command)
        out.append(record("command", command, status, data))
    everything = list(dict.fromkeys(paths()))
    for path in links():
        try:
            out.append(record("link", path, 0, os.readlink(path).encode("utf-8", "surrogateescape")))
        except OSError as error:
            out.append(record("link", path, error.errno, b""))
    for path in everything:
        out.append(record("early", path, *read(path)))
    late = [record("late", path, *read(path)) for path in everything]
    end = append(shared, 8, b"".join(out + late))
    # what tools are compared with is read once more, so that nothing has time to move
    last = []
    pids = [name for name in os.listdir("/proc") if name.isdigit()]
    for pid in pids:
        for name in ("stat", "status", "cmdline"):
            path = "/proc/%s/%s" % (pid, name)
            last.append((path, *read(path)))
    for path in ("/proc/loadavg", "/proc/uptime", "/proc/modules"):
        last.append((path, *read(path)))
    last = [record("late", *item) for item in last]
    last.append(record("pids", "", 0, " ".join(pids).encode()))
    last.append(record("time", "realtime", 0, repr(time.time()).encode()))
    last.append(record("time", "boottime", 0, repr(time.clock_gettime(7)).encode()))
    end = append(shared, end, b"".join(last))
    shared[:8] = (end - 8).to_bytes(8, "little")
    panic[0] = 1


main()
