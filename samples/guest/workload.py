"""The workload of a sample guest: believable processes, sockets and files. Runs on python3-minimal alone.

Reads /srv/workload.conf: the seed and "light" or "rich". Ends when everything is in place.
"""

import os
import sys

import signal
import socket
import time


class Random:
    """A small generator (xorshift): `random` is not among python3-minimal's modules."""

    def __init__(self, seed):
        self.state = seed * 2654435761 % (1 << 64) | 1

    def below(self, limit):
        self.state ^= self.state << 13 & (1 << 64) - 1
        self.state ^= self.state >> 7
        self.state ^= self.state << 17 & (1 << 64) - 1
        return self.state % limit


SEED, KIND = open("/srv/workload.conf").read().split()
random = Random(int(SEED))
RICH = KIND == "rich"
USERS = {"root": 0, "daemon": 1, "www-data": 33, "alice": 1000, "bob": 1001, "postgres": 101}


def spawn(user, work, *arguments, name=None):
    """Fork a process of `user` that does `work(*arguments)` and then sleeps for good; its pid.

    `name` is what it calls itself in /proc/self/comm.
    """
    ready, tell = os.pipe()
    pid = os.fork()
    if pid:
        os.close(tell)
        os.read(ready, 1)
        os.close(ready)
        return pid
    os.close(ready)
    os.setsid()
    if name:
        with open("/proc/self/comm", "w") as comm:
            comm.write(name)
    if USERS[user]:
        os.setgroups([USERS[user], 100])
        os.setgid(USERS[user])
        os.setuid(USERS[user])
    try:
        done = work(*arguments)
    except OSError as error:
        print("workload:", work.__name__, error)
    os.close(tell)
    while True:
        signal.pause()


def execute(program, arguments, environment=None):
    os.execve(program, arguments, environment or {"PATH": "/usr/bin", "LANG": "C"})


def spawn_program(user, program, arguments, environment=None):
    """Fork and exec; the pid. The new program is given time to replace the old one."""
    pid = os.fork()
    if pid == 0:
        os.setsid()
        os.setgid(USERS[user])
        os.setuid(USERS[user])
        execute(program, arguments, environment)
    return pid


def threads(count):
    import _thread

    lock = _thread.allocate_lock()
    lock.acquire()
    for _ in range(count):
        _thread.start_new_thread(lock.acquire, ())
    time.sleep(0.1)


def zombie():
    if os.fork() == 0:
        os._exit(3)
    time.sleep(0.1)


KEPT = []


def listen(family, address, backlog=5):
    server = socket.socket(family, socket.SOCK_STREAM)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    server.bind(address)
    server.listen(backlog)
    KEPT.append(server)
    return server


def connected(family, address):
    """A listener, an accepted connection with unread bytes, and a pair closed into TIME_WAIT."""
    server = listen(family, address)
    for closing in (False, True):
        client = socket.socket(family, socket.SOCK_STREAM)
        client.connect(address)
        peer, _ = server.accept()
        client.send(b"unread" * (1 + random.below(9)))
        if closing:
            peer.recv(4096)
            client.close()
            time.sleep(0.02)
            peer.close()
        else:
            KEPT.extend((client, peer))


def datagrams(family, address):
    one = socket.socket(family, socket.SOCK_DGRAM)
    one.bind(address)
    two = socket.socket(family, socket.SOCK_DGRAM)
    two.connect(address)
    two.send(b"waiting")
    KEPT.extend((one, two))


def unix_sockets():
    for name in ("/tmp/app.sock", "\0abstract-name"):
        server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        server.bind(name)
        server.listen(3)
        client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        client.connect(name)
        KEPT.extend((server, client))
    KEPT.extend(socket.socketpair())


def temporary_files():
    for i in range(5):
        with open("/tmp/file-%d" % i, "wb") as file:
            file.write(b"x" * random.below(20000))
    KEPT.append(open("/tmp/deleted", "wb"))
    os.unlink("/tmp/deleted")


def masquerade():
    """A program that runs from a memfd and poses as a kernel thread."""
    fd = os.memfd_create("kworker")
    with open("/usr/bin/sleep", "rb") as program:
        os.write(fd, program.read())
    os.execve("/proc/self/fd/%d" % fd, ["[kworker/0:2-events]", "100000"], {})


def main():
    sleep = "/usr/bin/sleep"
    spawn_program("alice", sleep, ["sleep", "10000"])
    spawn_program("www-data", sleep, ["nginx: worker process", "10001"])
    spawn_program("bob", sleep, ["sleep", "10002"], {"SECRET": "in the environment", "EMPTY": "", "SEED": SEED})
    spawn("daemon", zombie, name="parent) S 1 (x")
    stopped = spawn_program("alice", sleep, ["sleep", "10003"])
    time.sleep(0.1)
    os.kill(stopped, signal.SIGSTOP)
    spawn("www-data", connected, socket.AF_INET, ("127.0.0.1", 8000 + random.below(1000)))
    spawn("postgres", datagrams, socket.AF_INET, ("127.0.0.1", 5300 + random.below(100)))
    if RICH:
        rich(sleep)


def rich(sleep):
    spawn("postgres", threads, 4 + random.below(4), name="worker pool")
    # namespaces of its own, as a container has them
    spawn_program("root", "/usr/bin/unshare", ["unshare", "-n", "-u", "-i", "-p", "-f", sleep, "30000"])
    with open("/usr/bin/sleep", "rb") as program, open("/tmp/sleep", "wb") as copy:
        copy.write(program.read())
    os.chmod("/tmp/sleep", 0o755)
    spawn_program("bob", "/tmp/sleep", ["sleep", "10004"])
    time.sleep(0.1)
    os.rename("/tmp/sleep", "/tmp/gone")
    os.unlink("/tmp/gone")
    long_line = ["sleep", "10005"] + ["argument-%d-%s" % (i, "\u00e9 'quoted' \"and\" \\ $x") for i in range(3)]
    spawn_program("alice", "/usr/bin/busybox", ["sh", "-c", "while :; do sleep 1000; done", *long_line, "y" * 5000])
    disguised = os.fork()
    if disguised == 0:
        os.setsid()
        masquerade()
    time.sleep(0.2)
    try:
        with open("/proc/%d/comm" % disguised, "w") as comm:
            comm.write("kworker/0:2-ev")
    except OSError:
        pass
    spawn("root", connected, socket.AF_INET6, ("::1", 9000 + random.below(500)))
    spawn("root", listen, socket.AF_INET, ("0.0.0.0", 22))
    spawn("root", listen, socket.AF_INET6, ("::", 80))
    spawn("root", datagrams, socket.AF_INET6, ("::1", 5400 + random.below(100)))
    spawn("bob", unix_sockets)
    spawn("bob", temporary_files)
    for i in range(5 + random.below(10)):
        user = list(USERS)[random.below(len(USERS))]
        spawn_program(user, sleep, ["sleep", str(20000 + i)])


main()
time.sleep(0.5)
