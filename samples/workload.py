"""What runs in a sample guest: a shell script, drawn from a seed, that guest/init.sh sources.

Everything is in place when the script ends; nothing in it depends on how fast the guest is. Programs are
Debian's where one plays the part, else links to guest/actor.c.

Closed connections, which the kernel forgets after a minute, are made by a second script (`renewal`), which
runs right before they are recorded.
"""

from __future__ import annotations

import random
import shlex
from dataclasses import dataclass, field

from samples.memory_workload import memory_of_every_kind

USERS = {
    "root": 0,
    "daemon": 1,
    "www-data": 33,
    "messagebus": 100,
    "postgres": 101,
    "alice": 1000,
    "bob": 1001,
    "carol": 1002,
}
ACTOR = "usr/libexec/actor"
ACTORS = (
    "usr/sbin/nginx", "usr/sbin/named", "usr/sbin/sshd", "usr/sbin/cron", "usr/sbin/acctd",
    "usr/bin/redis-server", "usr/bin/java", "usr/bin/gdb", "usr/bin/xterm", "usr/lib/postgresql/bin/postgres",
    "usr/sbin/parent) S 1 (x", "usr/bin/worker pool", "usr/bin/name with spaces", "opt/agent", "usr/bin/curl",
    "usr/bin/tcpdump", "usr/bin/heap",
)  # fmt: skip
"""Paths in the guest that are links to the actor."""
DUMMY_V4, DUMMY_V6 = "192.0.2.10", "2001:db8::10"
SILENT_V4 = "192.0.2.77"
"""A neighbour with a static entry that does not exist: a connection to it stays in SYN_SENT."""
_BACKLOG_PORT = 873


@dataclass
class Script:
    """Lines of a shell script under construction; `random` draws what may differ between seeds."""

    random: random.Random
    lines: list[str] = field(default_factory=list)

    def shell(self, line: str) -> None:
        """A line as it is."""
        self.lines.append(line)

    def program(
        self,
        user: str,
        *arguments: str,
        argv0: str = "",
        nice: int = 0,
        tty: str = "",
        folder: str = "",
        env: dict[str, str] | None = None,
    ) -> None:
        """Start a program as a process of its own."""
        self._run([], user, arguments, argv0, nice, tty, folder, env)

    def role(self, user: str, name: str, *arguments: str, argv0: str = "", folder: str = "") -> None:
        """Start the actor, by one of its names, in a role; goes on when it is set up."""
        self._run(["-r"], user, (name, *arguments), argv0, 0, "", folder, None)

    def _run(
        self,
        options: list[str],
        user: str,
        arguments: tuple[str, ...],
        argv0: str,
        nice: int,
        tty: str,
        folder: str,
        env: dict[str, str] | None,
    ) -> None:
        words = ["env", "-i", *(f"{name}={value}" for name, value in env.items())] if env is not None else []
        words += [f"/{ACTOR}", "run", *options]
        for option, value in (("-u", USERS[user]), ("-n", nice), ("-a", argv0), ("-t", tty), ("-d", folder)):
            if value:
                words += [option, str(value)]
        self.lines.append(" ".join(shlex.quote(word) for word in (*words, *arguments)))


def workload(seed: int, light: bool, processes: int = 0, memory: bool = False) -> str:
    """The script. `processes` adds so many more sleeping processes, for large images; `memory` a process with
    memory of every kind."""
    script = Script(random.Random(seed))
    _few(script, memory)
    if not light:
        _sockets(script)
        _oddities(script)
        _files(script)
        _container(script)
        _neighbours(script)
    if memory:
        script.lines += memory_of_every_kind(ACTOR)
    people = [name for name in USERS if name != "root"]
    for index in range(processes):
        script.program(script.random.choice(people), "sleep", str(100000 + index))
    return "\n".join(script.lines) + "\n"


def renewal(seed: int, light: bool) -> str:
    """The script that makes closed connections. It leaves no process behind, and it wakes none of
    the workload's: the listener never calls accept, so the kernel alone answers."""
    script = Script(random.Random(f"renewal {seed}"))
    for host in ("127.0.0.1", "::1"):
        port = script.random.randrange(9000, 9500)
        script.role("bob", "curl", "loop", host, str(port), str(script.random.randrange(1, 4)))
    if not light:
        for host in ("127.0.0.1", "::1"):
            script.role("carol", "curl", "leaver", host, str(_BACKLOG_PORT))
    return "\n".join(script.lines) + "\n"


def _few(script: Script, memory: bool) -> None:
    """The dozen processes that every sample has."""
    draw = script.random
    http, sql, dns = draw.randrange(8000, 9000), draw.randrange(5400, 5500), draw.randrange(1053, 1153)
    script.role(
        "root",
        "nginx",
        "server",
        "stream",
        "127.0.0.1",
        str(http),
        argv0="nginx: master process /usr/sbin/nginx",
    )
    script.role(
        "www-data",
        "nginx",
        "client",
        "stream",
        "127.0.0.1",
        str(http),
        str(draw.randrange(1, 900)),
        argv0="nginx: worker process",
    )
    script.role("root", "curl", "closer", "127.0.0.1", str(http), str(draw.randrange(1, 4)))
    script.role(
        "postgres",
        "/usr/lib/postgresql/bin/postgres",
        "server",
        "stream",
        "::1",
        str(sql),
        argv0="postgres: checkpointer",
    )
    script.role("alice", "curl", "client", "stream", "::1", str(sql), "0")
    script.role("messagebus", "named", "server", "dgram", "127.0.0.1", str(dns))
    script.role("messagebus", "named", "server", "dgram", "::1", str(dns))
    script.role("messagebus", "acctd", "server", "stream", "/run/acctd.sock", "0")
    script.role("daemon", "parent) S 1 (x", "zombie", str(draw.randrange(1, 200)))
    script.role("bob", "xterm", "stopped")
    script.role("carol", "java", "threads", str(draw.randrange(3, 9)), "pool-1-thread")
    # Linux switches huge pages off on machines of less than 512 MiB (mm/huge_memory.c, hugepage_init); rt
    # kernels have none
    switch = "/sys/kernel/mm/transparent_hugepage/enabled"
    script.shell(f"[ ! -e {switch} ] || echo {'always' if memory else 'madvise'} > {switch}")
    script.role("carol", "heap", "memory", "4", "transparent", "zeros")
    script.program(
        "alice",
        "sleep",
        str(draw.randrange(10000, 20000)),
        env={"HOME": "/home/alice", "LANG": "de_DE.UTF-8", "EDITOR": "vi"},
    )
    script.program("bob", "tail", "-f", "/dev/null", nice=draw.randrange(1, 20), folder="/tmp")


def _sockets(script: Script) -> None:
    draw = script.random
    redis = draw.randrange(6300, 6400)
    for host in ("0.0.0.0", "::"):
        script.role(
            "root",
            "sshd",
            "server",
            "stream",
            host,
            "22",
            argv0="sshd: /usr/sbin/sshd -D [listener] 0 of 10-100 startups",
        )
    script.role(
        "daemon",
        "redis-server",
        "server",
        "stream",
        "127.0.0.1",
        str(redis),
        argv0=f"/usr/bin/redis-server 127.0.0.1:{redis}",
    )
    for _ in range(draw.randrange(2, 6)):
        script.role(
            draw.choice(("alice", "bob", "carol")),
            "curl",
            "client",
            "stream",
            "127.0.0.1",
            str(redis),
            str(draw.randrange(5000)),
        )
    script.role("alice", "curl", "client", "stream", DUMMY_V4, "22", "77")
    script.role("alice", "curl", "client", "stream", DUMMY_V6, "22", "0")
    script.role("bob", "curl", "leaver", "127.0.0.1", str(redis))
    for host in ("127.0.0.1", "::1"):
        script.role("root", "sshd", "backlog", host, str(_BACKLOG_PORT), argv0="rsync --daemon")
    script.role("bob", "curl", "closer", "::1", "22", str(draw.randrange(1, 5)))
    script.role("carol", "curl", "caller", SILENT_V4, "443")
    script.role("alice", "curl", "client", "dgram", "127.0.0.1", str(draw.randrange(20000, 30000)), "0")
    script.role("root", "tcpdump", "sniffer")
    script.role("messagebus", "acctd", "server", "seqpacket", "@seats", "0")
    script.role("messagebus", "acctd", "server", "dgram", "/run/log.sock", "0")
    script.role("messagebus", "acctd", "server", "stream", "@/tmp/.X11-unix/X0", "0")
    script.role("alice", "curl", "client", "stream", "@/tmp/.X11-unix/X0", "0", "33")
    script.role("bob", "curl", "client", "dgram", "/run/log.sock", "0", "12")


def _oddities(script: Script) -> None:
    """What listings stumble over, and what intruders do."""
    draw = script.random
    sleep = str(draw.randrange(30000, 40000))
    odd = ["tab\there", "new\nline", "quote'\"`$(x)\\", "caf\u00e9 \u4e2d\u6587", "", " ", "\x01\x7f"]
    script.role(
        "carol",
        "java",
        "idle",
        "-Xmx512m",
        "-cp",
        ":".join(f"/opt/app/lib/{n}-{draw.randrange(9999)}.jar" for n in range(240)),
        *odd,
    )
    script.program("alice", "sleep", "31000", argv0="x" * 700)
    script.program(
        "bob",
        "sleep",
        "31001",
        env={f"VARIABLE_{n}": "v" * draw.randrange(200) for n in range(60)}
        | {"SECRET": "hunter2 \u00fc \udcff\udcfe raw"},
    )
    script.program("bob", "sleep", "31002", env={})
    script.role("bob", "name with spaces", "idle")
    script.role("carol", "worker pool", "threads", str(draw.randrange(4, 9)), "pool (thread)")
    script.role("root", "/opt/agent", "memfd", "[kworker/0:2-events]", "100000")
    for path in ("/tmp/.update", "/dev/shm/miner"):
        script.shell(f"cp /usr/bin/sleep {path}")
        script.program("www-data", path, sleep, argv0=draw.choice(("/usr/sbin/apache2", "-bash")))
        script.shell(f"rm {path}")
    script.role("root", "gdb", "traced")
    script.role("root", "cron", "waiting")
    script.role("alice", "xterm", "terminal")
    script.program("root", "sh", "-c", "while :; do sleep 50000; done", tty="/dev/ttyS0", argv0="-sh")
    script.program("carol", "sh", "-c", "sleep 40000 & sleep 40001 | cat; true")
    script.role("root", "cron", "threads", str(draw.randrange(20, 40)), "a (thread) ")


def _files(script: Script) -> None:
    draw = script.random
    script.shell("mkdir -p /srv/data /mnt/scratch && chown 1000 /srv/data")
    script.shell("mount -t tmpfs -o size=3m,mode=1777,noexec scratch /mnt/scratch")
    script.shell("mkdir -p '/mnt/scratch/a folder/deep'")
    for n in range(draw.randrange(4, 9)):
        script.shell(f"head -c {draw.randrange(40000)} /dev/zero > '/mnt/scratch/a folder/file {n}'")
    script.role("alice", "acctd", "files", "/srv/data")
    script.role("root", "acctd", "files", "/mnt/scratch")
    script.role("root", "acctd", "ipc", str(draw.randrange(1000, 9999)))
    script.shell("mkdir -p /sys/fs/cgroup && mount -t cgroup2 cgroup2 /sys/fs/cgroup 2>/dev/null && {")
    script.shell("mkdir -p /sys/fs/cgroup/system.slice/web.service /sys/fs/cgroup/user.slice")
    script.shell(
        "for pid in $(pgrep nginx); do echo $pid > /sys/fs/cgroup/system.slice/web.service/cgroup.procs; done"
    )
    script.shell(
        "for pid in $(pgrep -u alice); do echo $pid > /sys/fs/cgroup/user.slice/cgroup.procs; done; }"
    )
    # a disk with one partition (a master boot record: type 83, from sector 8, 1024 sectors), read and written
    script.shell(
        "{ head -c 446 /dev/zero; printf '\\0\\0\\0\\0\\203\\0\\0\\0\\010\\0\\0\\0\\0\\004\\0\\0'; "
        "head -c 48 /dev/zero; printf '\\125\\252'; head -c 999488 /dev/zero; } > /srv/disk.img"
    )
    script.shell("losetup -P /dev/loop0 /srv/disk.img 2>/dev/null && {")
    script.shell("cat /dev/loop0 > /dev/null")
    script.shell("[ ! -b /dev/loop0p1 ] || head -c 70000 /usr/bin/sleep > /dev/loop0p1; }")


def _container(script: Script) -> None:
    """Processes in namespaces of their own (net, pid, uts, ipc, mnt), joined by a veth pair."""
    draw = script.random
    inside = " && ".join((
        "hostname web-container",
        "ip link set lo up",
        f"/{ACTOR} run -r -u 33 nginx server stream 0.0.0.0 8080",
        f"/{ACTOR} run -r -u 33 nginx server stream :: 8443",
        f"/{ACTOR} run -r -u 101 redis-server client stream 127.0.0.1 8080 {draw.randrange(1, 99)}",
        f"/{ACTOR} run -r -u 100 named server dgram 127.0.0.1 5353",
        f"/{ACTOR} run -r acctd server stream @inside 0",
        f"/{ACTOR} run -r -u 1000 acctd ipc 77",
        f"/{ACTOR} run -r java threads 3 inside",
    ))  # fmt: skip
    script.shell("mkfifo /run/container")
    script.program(
        "root",
        "unshare",
        "--net",
        "--pid",
        "--uts",
        "--ipc",
        "--mount",
        "--mount-proc",
        "--fork",
        "sh",
        "-c",
        f"{inside}; echo $? > /run/container; exec sleep 60000",
    )
    script.shell('read -r failed < /run/container; rm /run/container; [ "$failed" = 0 ]')
    script.shell("until pid=$(pgrep -f '^sleep 60000$'); do :; done")
    script.shell("ip link add veth0 type veth peer name eth0 netns $pid 2>/dev/null && {")
    script.shell("ip addr add 10.9.0.1/24 dev veth0; ip link set veth0 up; ")
    script.shell(
        "nsenter --net --target $pid sh -c 'ip addr add 10.9.0.2/24 dev eth0; ip link set eth0 up; "
        "ip addr add fd00:9::2/64 dev eth0 nodad; ip route add default via 10.9.0.1; "
        "ip neigh replace 10.9.0.1 lladdr 02:00:00:00:09:01 dev eth0 nud permanent'; }"
    )
    script.program("root", "unshare", "--user", "--map-root-user", "--uts", "sleep", "60001")


def _neighbours(script: Script) -> None:
    draw = script.random
    for _ in range(draw.randrange(3, 9)):
        mac = ":".join(f"{draw.randrange(256):02x}" for _ in range(5))
        addresses = f"192.0.2.{draw.randrange(100, 250)}", f"2001:db8::{draw.randrange(256, 60000):x}"
        for address in addresses:
            script.shell(f"ip neigh replace {address} lladdr 02:{mac} dev dummy0 nud permanent")
    script.shell(
        "ip route add 198.51.100.0/24 via 192.0.2.1; ip -6 route add 2001:db8:1::/48 via 2001:db8::1"
    )
    script.shell(
        "ip link add br0 type bridge 2>/dev/null && ip addr add 10.8.0.1/24 dev br0 && ip link set br0 up"
    )
