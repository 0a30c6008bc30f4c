"""What the observer records, in which order. guest/observer.c obeys it line by line.

- `skip PATH`: a file or folder that no walk enters; `skip-name NAME`: the same for a name anywhere.
- `leader-name NAME`: of a process's first thread (/proc/PID/task/PID) only these files are read.
- `command LINE`: the standard output of a program (words separated by blanks, no shell); `run LINE`: the
  same, not recorded.
- `early FOLDER`, `late FOLDER`: everything below a folder, first and second reading.
- `last PATH`: one more reading of a file; `processes NAMES`: of these files of every process and thread.
- `memory NAME`: checksums of the memory of every process whose comm is NAME.
- `round`: what follows is done again if connections have changed between `connections` and the last reading.
- `hold PATH`: open a file, to read it with the following.
- `settle NAMES`: the last reading: what is held, and these files of every process and thread, until no other
  task runs meanwhile.
"""

from __future__ import annotations

RENEWAL = "/srv/renew.sh"
"""Makes the connections that the kernel soon forgets."""
COMMANDS = (
    "uname -a", "hostname", "uptime", "free", "lsmod", "ps -ef", "ps aux", "ps -eLf", "ps -ejH",
    "ps -eww -o pid,ppid,pgid,sid,tty,stat,uid,user,ni,pri,nlwp,comm,args",
    "ps -eww -o pid,lstart,etimes,time,vsz,rss,wchan",
    "netstat -rn", "arp -an", "ss -xanp", "ip addr", "ip neigh", "mount", "dmesg",
)  # fmt: skip
HEAP = "heap"
"""The comm of processes whose memory is recorded."""
CONNECTIONS = ("netstat -tulpan", "ss -tuanpe")
"""The tools that show closed connections, which come last."""
RICH_CONNECTIONS = ("ss -tuwanoipem",)
TOOLS_ON_COPY = "/usr/libexec/tools-on-copy"
"""The statistics tools on a copy of /proc (guest/tools_on_copy.sh); `Truth.proc_copy` parses its output."""
IN_CONTAINER = "/usr/libexec/in-container"
"""`CONTAINER_COMMANDS` in the workload's container (guest/in_container.sh); `samples.truth.parse_copy` parses
its output."""
CONTAINER_COMMANDS_FILE = "/srv/in-container"
INVENTORY, HASHES = "/usr/libexec/inventory /mnt", "cat /run/hashes"
LOCKED = "cat /run/locked"
DISK_COMMANDS = (INVENTORY, HASHES, LOCKED)
"""What a guest with file systems says of their files, of each file's content when it was written, and of its
encrypted directories (guest/encrypt.c)."""
_OF_THREADS = (
    "pid,tid,cls,rtprio,psr,f,s,sz,ruser,euser,suid,fsuid,rgid,egid,pending,blocked,ignored,caught,ucmd"
)
_OF_PROCESSES = (
    "pid,tpgid,pgrp,sess,nlwp,ppid,rss,vsz,pmem,tname,uid,gid,group,rgroup,label,netns,pidns,mntns,cgroup:200"
)
RICH_COMMANDS = (
    "netstat -s", "netstat -i", "netstat -xap", "ip -d -s link", "ip route show table all", "ip -6 route",
    "ip -6 neigh", "ip rule", "ip -6 rule", "ip maddr", "route -n", "route -6 -n", "dmesg -x", "dmesg --raw",
    "ipcs -a", "lsns", "df -a", "pmap -X 1", "lsof -n -P -w", "free -b", "free -w", "vmstat", "vmstat -a",
    "vmstat -s", "vmstat -d",
    f"ps -eLww -o {_OF_THREADS}", f"ps -eww -o {_OF_PROCESSES}",
    "uptime -s", "uptime -p", "arp -n", "arp -e", "netstat -g", "netstat -ie", "mount -l", "dmesg -T",
    "dmesg -x -l warn,notice", "pmap -x 1", "ps -eLfww", "arp -a", "iostat", "iostat -x", "iostat -xk",
    "mpstat", "mpstat -P ALL", "pidstat", "pidstat -t", "pidstat -r", "pidstat -d",
    TOOLS_ON_COPY, IN_CONTAINER,
)  # fmt: skip
"""More tools, those whose numbers move last; each reads /proc, which takes the guest's time."""
CONTAINER_COMMANDS = (
    "uname -a", "hostname", "lsmod", "dmesg", "uptime -s", "free", "mount", "mount -l", "df -a", "ipcs -a",
    "lsns", "ps -ef", "ps aux", "ps -eLf", "ps -ejH", "pgrep -l .", "pmap -X 1", "pmap -x 1", "lsof -n -P -w",
    "ps -eww -o pid,ppid,pgid,sid,tty,stat,uid,user,ni,pri,nlwp,comm,args", f"ps -eLww -o {_OF_THREADS}",
    f"ps -eww -o {_OF_PROCESSES}", "netstat -rn", "netstat -tulpan", "netstat -xap", "netstat -g",
    "netstat -i", "netstat -s", "ss -xanp", "ss -tuanpe", "ss -tuwanoipem", "arp -an", "arp -e", "route -n",
    "route -6 -n", "ip addr", "ip -d -j addr", "ip -d link", "ip neigh", "ip -6 neigh",
    "ip route show table all", "ip -6 route", "ip rule", "ip maddr", "vmstat -d", "vmstat -s", "iostat",
    "mpstat", "cat /proc/1/status /proc/1/cgroup /proc/1/limits /proc/1/uid_map",
    "cat /proc/1/mountinfo /proc/1/mountstats",
    "cat /proc/net/tcp /proc/net/tcp6 /proc/net/unix /proc/net/fib_trie /proc/net/if_inet6 /proc/net/igmp",
    "cat /proc/sys/kernel/hostname /proc/sys/kernel/ns_last_pid /proc/sysvipc/shm",
    "find /proc/1/fd /proc/1/ns /proc/1/task /proc/1/root /proc/1/exe -printf %p=%l\\n",
    "find /proc/sys/net /sys/class/net /dev/shm /run -printf %p=%y\\n", "find /proc -maxdepth 1 -name [0-9]",
)  # fmt: skip
"""What is asked inside of a container, where the workload has one."""
NETWORK_COMMANDS = (
    "ip -d -j link", "ip -d link", "ip -d -j addr", "ip -j -d -4 route show table all",
    "ip -d -j -6 route show table all", "ip -d -4 route show table all", "ip -d -6 route show table all",
    "ip -d -j rule", "ip -d -j -6 rule", "ip -d rule", "ip -d -6 rule", "ip -d -j neigh",
    "ip neigh show proxy", "netstat -i", "netstat -ia", "netstat -xap", "ss -xanpe", "ss -anpe --sctp",
    "ss -anpe --mptcp", "ss -anpe --vsock", "ss -anpe --xdp", "ss -anpe --tipc", "ss -wanpe", "ss -0anpe",
    "ss -uanpe", "ss -anpe --family=netlink", "lsof -n -P -w",
)  # fmt: skip
"""What a guest with many links, rules, routes and sockets (guest/network.sh) is asked besides."""

_SKIPPED = (
    "/proc/kmsg", "/proc/kcore", "/proc/kpagecount", "/proc/kpageflags", "/proc/kpagecgroup",
    "/proc/kallsyms", "/proc/sysrq-trigger", "/proc/acpi", "/proc/sys/net/ipv4/route/flush",
    "/proc/sys/vm/stat_refresh", "/proc/sys/fs/binfmt_misc", "/proc/bus/pci",
)  # fmt: skip
"""Endless, huge, or with effects."""
_SKIPPED_NAMES = ("mem", "pagemap", "clear_refs")
_LEADER_NAMES = ("stat", "status", "comm", "children")
_SYS_FOLDERS = (
    "/sys/class/net/lo", "/sys/class/net/dummy0", "/sys/class/net/eth0", "/sys/class/net/br0",
    "/sys/devices/system/cpu", "/sys/devices/system/clocksource", "/sys/devices/system/node",
    "/sys/devices/virtual/block", "/sys/kernel/mm", "/sys/module", "/sys/power", "/sys/fs/cgroup",
)  # fmt: skip
_SYS_FILES = (
    "uevent_seqnum", "profiling", "fscaps", "notes", "kexec_loaded", "rcu_normal", "rcu_expedited",
    "vmcoreinfo",
)  # fmt: skip
_LAST = (
    *(f"/proc/net/{name}" for name in ("udp", "udp6", "unix", "netlink", "arp", "route", "rt6_stats")),
    "/proc/modules", "/proc/locks", "/proc/slabinfo", "/proc/zoneinfo", "/proc/timer_list", "/proc/schedstat",
    "/proc/diskstats", "/proc/tty/driver/serial",
)  # fmt: skip
_HELD = (
    *(f"/proc/net/{name}" for name in ("tcp", "tcp6", "dev", "snmp", "snmp6", "netstat", "sockstat")),
    "/proc/net/softnet_stat",
    *(f"/proc/sys/fs/{name}" for name in ("dentry-state", "file-nr", "inode-nr")),
    "/proc/buddyinfo", "/proc/softirqs", "/proc/interrupts", "/proc/vmstat", "/proc/meminfo", "/proc/stat",
    "/proc/loadavg", "/proc/uptime",
)  # fmt: skip
_LAST_OF_PROCESSES = "cmdline wchan"
_SETTLED = "comm status stat"


def plan(light: bool, disks: bool = False, network: bool = False) -> str:
    """The observer's orders for one guest.

    What takes long comes first: the connections that the kernel forgets after a minute are made after it.
    """
    lines = [f"skip {path}" for path in _SKIPPED]
    lines += [f"skip-name {name}" for name in _SKIPPED_NAMES]
    lines += [f"leader-name {name}" for name in _LEADER_NAMES]
    commands = (COMMANDS if light else COMMANDS + RICH_COMMANDS) + NETWORK_COMMANDS * network
    lines += [f"command {line}" for line in commands]
    lines.append(f"memory {HEAP}")
    sys_folders = _SYS_FOLDERS[:6] if light else _SYS_FOLDERS
    for reading in ("early", "late"):
        lines += [f"{reading} {folder}" for folder in (*sys_folders, "/proc/net", "/proc")]
    lines += [f"command {line}" for line in DISK_COMMANDS * disks]
    lines += ["round", f"run sh {RENEWAL}", "connections"]
    lines += [f"command {line}" for line in (CONNECTIONS if light else CONNECTIONS + RICH_CONNECTIONS)]
    lines.append("late /proc/net")
    lines += [f"last /sys/kernel/{name}" for name in _SYS_FILES]
    lines += [f"last {path}" for path in _LAST]
    lines.append(f"processes {_LAST_OF_PROCESSES}")
    lines += [f"hold {path}" for path in _HELD]
    lines.append(f"settle {_SETTLED}")
    return "\n".join(lines) + "\n"
