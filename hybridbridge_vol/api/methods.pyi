# Written by build_support/stubs.py from the tools' descriptions: `make stubs` writes it anew.
import datetime
from collections.abc import Iterable
from typing import Any

from hybridbridge_vol.api.table import Table
from hybridbridge_vol.guest.kernel import GuestKernel

class Record(tuple[Any, ...]):
    """A row: a named tuple."""

    _fields: tuple[str, ...]
    def _asdict(self) -> dict[str, Any]: ...

class Arp(Record):
    address: str | None
    hwtype: str | None
    hwaddress: str | None
    flags: str | None
    mask: str | None
    iface: str | None

class Bash(Record):
    pid: int | None
    comm: str | None
    user: str | None
    number: int | None
    time: datetime.datetime | None
    how: str | None
    line: str | None

class Bpf(Record):
    id: int | None
    type: str | None
    name: str | None
    tag: str | None
    attached: str | None
    marks: str | None
    loaded: datetime.datetime | None
    uid: int | None
    gpl: str | None
    maps: str | None
    btf: int | None
    xlated: int | None
    jited: int | None
    memlock: int | None
    address: int | None
    runs: int | None
    owners: str | None
    pinned: str | None
    key: int | str | None
    value: int | str | None
    max: int | None
    flags: int | None
    frozen: str | None
    programs: str | None
    prog: int | None
    progname: str | None
    attach: str | None
    where: str | None
    size: int | None
    kernel: str | None
    map: int | None
    typed: str | None
    index_: int | None
    code: str | None
    text: str | None

class Cat(Record):
    line: int | None
    text: str | None
    path: str | None

class Check(Record):
    what: str | None
    address: int | None
    offset: int | None
    symbol: str | None
    expected: str | None
    found: str | None
    leads: str | None

class Conntrack(Record):
    l3: str | None
    proto: str | None
    timeout: int | None
    state: str | None
    source: str | None
    destination: str | None
    packets: int | None
    bytes: int | None
    reply_source: str | None
    reply_destination: str | None
    reply_packets: int | None
    reply_bytes: int | None
    flags: str | None
    mark: int | None
    zone: int | None
    helper: str | None
    begun: datetime.datetime | None
    use: int | None
    id: int | None
    more: str | None
    mask_source: str | None
    mask_destination: str | None
    master_source: str | None
    master_destination: str | None
    class_: int | None

class Containers(Record):
    engine: str | None
    id: str | None
    name: str | None
    image_name: str | None
    pod: str | None
    state: str | None
    created: datetime.datetime | None
    started: datetime.datetime | None
    nprocs: int | None
    pid: int | None
    host: str | None
    command: str | None
    root: str | None
    mounts: str | None
    ports: str | None
    mark: str | None
    group: str | None
    file: str | None
    depth: int

class Credentials(Record):
    pid: int | None
    ppid: int | None
    comm: str | None
    uid: int | None
    euid: int | None
    suid: int | None
    gid: int | None
    egid: int | None
    login: int | None
    effective: str | None
    permitted: str | None
    seccomp: str | None
    nnp: str | None
    namespaces: str | None
    cred: int | None
    verdict: str | None

class Dir(Record):
    mode: str | None
    nlink: int | None
    uid: int | None
    gid: int | None
    user: str | None
    group: str | None
    size: int | None
    mtime: datetime.datetime | None
    name: str | None
    target: str | None

class Dmesg(Record):
    seconds: str | None
    when: datetime.datetime | None
    facility: str | None
    level: str | None
    message: str | None

class Environ(Record):
    pid: int | None
    comm: str | None
    variable: str | None
    value: str | None

class Files(Record):
    mode: str | None
    nlink: int | None
    uid: int | None
    gid: int | None
    user: str | None
    group: str | None
    size: int | None
    cached: int | None
    mtime: datetime.datetime | None
    atime: datetime.datetime | None
    ctime: datetime.datetime | None
    btime: datetime.datetime | None
    inode: int | None
    fs: str | None
    mount: str | None
    state: str | None
    path: str | None
    target: str | None

class Free(Record):
    kind: str | None
    total: int | str | None
    used: int | str | None
    free: int | str | None
    shared: int | str | None
    buff_cache: int | str | None
    available: int | str | None
    buffers: int | str | None
    cache: int | str | None

class Getpid(Record):
    cpu: int | None
    pid: int | None
    tid: int | None
    comm: str | None

class Getprocname(Record):
    pid: int | None
    name: str | None

class Gettime(Record):
    clock: str | None
    seconds: str | None
    time: datetime.datetime | None

class Hidden(Record):
    kind: str | None
    what: str | None
    name: str | None
    seen: str | None
    missing: str | None

class Hooks(Record):
    kind: str | None
    what: str | None
    function: int | None
    symbol: str | None
    module: str | None
    verdict: str | None
    object: int | None

class Hostname(Record):
    hostname: str | None
    domainname: str | None

class Iostat(Record):
    device: str | None
    tps: float | None
    kb_read_s: float | None
    kb_wrtn_s: float | None
    kb_dscd_s: float | None
    kb_read: int | None
    kb_wrtn: int | None
    kb_dscd: int | None
    r_s: float | None
    rkb_s: float | None
    rrqm_s: float | None
    pct_rrqm: float | None
    r_await: float | None
    rareq_sz: float | None
    w_s: float | None
    wkb_s: float | None
    wrqm_s: float | None
    pct_wrqm: float | None
    w_await: float | None
    wareq_sz: float | None
    d_s: float | None
    dkb_s: float | None
    drqm_s: float | None
    pct_drqm: float | None
    d_await: float | None
    dareq_sz: float | None
    f_s: float | None
    f_await: float | None
    aqu_sz: float | None
    pct_util: float | None
    mb_read_s: float | None
    mb_wrtn_s: float | None
    mb_dscd_s: float | None
    mb_read: int | None
    mb_wrtn: int | None
    mb_dscd: int | None
    pct_user: float | None
    pct_nice: float | None
    pct_system: float | None
    pct_iowait: float | None
    pct_steal: float | None
    pct_idle: float | None
    rmb_s: float | None
    wmb_s: float | None
    dmb_s: float | None

class Ip(Record):
    ifindex: int | None
    iface: str | None
    family: str | None
    address: str | None
    brd: str | None
    scope: str | None
    flags: str | None
    valid: str | None
    preferred: str | None
    state: str | None
    mtu: int | None
    qdisc: str | None
    group: str | None
    qlen: int | None
    master: str | None
    alias: str | None
    altnames: str | None
    netnsid: int | None
    more: str | None
    kind: str | None
    info: str | None
    port: str | None
    rx_bytes: int | None
    rx_packets: int | None
    rx_errors: int | None
    rx_dropped: int | None
    rx_missed: int | None
    multicast: int | None
    tx_bytes: int | None
    tx_packets: int | None
    tx_errors: int | None
    tx_dropped: int | None
    tx_carrier: int | None
    collisions: int | None
    lladdr: str | None
    type: str | None
    destination: str | None
    gateway: str | None
    table: str | None
    proto: str | None
    src: str | None
    metric: int | None
    weight: int | None
    pref: str | None
    expires: int | None
    from_: str | None
    tos: int | None
    priority: int | None
    invert: str | None
    to: str | None
    iif: str | None
    oif: str | None
    fwmark: str | None
    action: str | None

class Keys(Record):
    serial: str | None
    type: str | None
    description: str | None
    uid: int | None
    user: str | None
    flags: str | None
    expires: str | None
    perm: int | None
    uses: int | None
    keyrings: str | None
    payload: str | None

class Logins(Record):
    source: str | None
    kind: str | None
    user: str | None
    tty: str | None
    host: str | None
    address: str | None
    pid: int | None
    start: datetime.datetime | None
    end: datetime.datetime | None
    duration: datetime.timedelta | None
    how: str | None
    mark: str | None
    file: str | None
    offset: int | None

class Lsmod(Record):
    module: str | None
    size: int | None
    used: int | None
    state: str | None
    address: int | None
    taints: str | None
    by: str | None

class Lsof(Record):
    command: str | None
    pid: int | None
    uid: int | None
    user: str | None
    fd: str | None
    type: str | None
    device: str | None
    size_off: str | None
    pos: int | None
    node: str | None
    name: str | None
    tid: int | None
    taskcmd: str | None

class Malfind(Record):
    pid: int | None
    comm: str | None
    kind: str | None
    start: int | None
    end: int | None
    perm: str | None
    held: int | None
    at: int | None
    bytes: str | None
    why: str | None
    path: str | None
    code: str | None

class Maps(Record):
    pid: int | None
    start: int | None
    end: int | None
    perm: str | None
    offset: int | None
    device: str | None
    inode: int | None
    size: int | None
    path: str | None
    rss: int | None
    pss: int | None
    shared: int | None
    private: int | None
    dirty: int | None
    anon: int | None
    swap: int | None
    locked: int | None

class Memdump(Record):
    start: int | None
    end: int | None
    perm: str | None
    size: int | None
    dumped: int | None
    absent: int | None
    swapped: int | None
    lost: int | None
    path: str | None

class Mounts(Record):
    pid: int | None
    id: int | None
    parent: int | None
    device: str | None
    type: str | None
    source: str | None
    root: str | None
    target: str | None
    propagation: str | None
    options: str | None
    super: str | None
    depth: int

class Mpstat(Record):
    cpu: str | None
    pct_usr: float | None
    pct_nice: float | None
    pct_sys: float | None
    pct_iowait: float | None
    pct_irq: float | None
    pct_soft: float | None
    pct_steal: float | None
    pct_guest: float | None
    pct_gnice: float | None
    pct_idle: float | None
    intr_s: float | None
    count_: int | None
    intr: str | None
    name: str | None

class Namespaces(Record):
    ns: int | None
    type: str | None
    nprocs: int | None
    pid: int | None
    uid: int | None
    user: str | None
    nsfs: str | None
    command: str | None
    depth: int

class Netstat(Record):
    proto: str | None
    recv_q: int | None
    send_q: int | None
    local: str | None
    foreign: str | None
    refcnt: int | None
    flags: str | None
    type: str | None
    state: str | None
    inode: int | None
    path: str | None
    pid: int | None
    program: str | None
    uid: int | None
    user: str | None
    timer: str | None
    destination: str | None
    gateway: str | None
    genmask: str | None
    mss: int | None
    window: int | None
    irtt: int | None
    iface: str | None
    mtu: int | None
    rx_ok: int | None
    rx_err: int | None
    rx_drp: int | None
    rx_ovr: int | None
    tx_ok: int | None
    tx_err: int | None
    tx_drp: int | None
    tx_ovr: int | None
    flg: str | None
    protocol: str | None
    counter: str | None
    value: int | None
    group: str | None

class Nft(Record):
    family: str | None
    table: str | None
    kind: str | None
    name: str | None
    handle: int | None
    packets: int | None
    bytes: int | None
    text: str | None

class Owner(Record):
    paddr: int | None
    offset: int | None
    kind: str | None
    pid: int | None
    comm: str | None
    at: int | None
    path: str | None
    flags: str | None

class Persistence(Record):
    kind: str | None
    when: str | None
    runs: str | None
    user: str | None
    state: str | None
    owner: str | None
    mode: str | None
    mtime: datetime.datetime | None
    package: str | None
    mark: str | None
    read: str | None
    file: str | None
    line: int | None

class Pidstat(Record):
    uid: int | None
    pid: int | None
    pct_usr: float | None
    pct_system: float | None
    pct_guest: float | None
    pct_wait: float | None
    pct_cpu: float | None
    cpu: int | None
    command: str | None
    minflt_s: float | None
    majflt_s: float | None
    vsz: int | None
    rss: int | None
    pct_mem: float | None
    kb_rd_s: float | None
    kb_wr_s: float | None
    kb_ccwr_s: float | None
    iodelay: int | None
    cswch_s: float | None
    nvcswch_s: float | None
    prio: int | None
    policy: str | None
    stksize: int | None
    stkref: int | None
    threads: int | None
    fd_nr: int | None
    tgid: int | None
    tid: int | None

class Ps(Record):
    pid: int | None
    ppid: int | None
    uid: int | None
    tty: str | None
    stat: str | None
    start: datetime.datetime | None
    time: datetime.timedelta | None
    pct_cpu: float | None
    pct_mem: float | None
    vsz: int | None
    rss: int | None
    nlwp: int | None
    comm: str | None
    cmd: str | None
    lwp: int | None
    tid: int | None
    pgid: int | None
    sid: int | None
    tpgid: int | None
    s: str | None
    f: int | None
    ruid: int | None
    euid: int | None
    suid: int | None
    fsuid: int | None
    rgid: int | None
    egid: int | None
    sgid: int | None
    fsgid: int | None
    ruser: str | None
    euser: str | None
    suser: str | None
    fsuser: str | None
    rgroup: str | None
    egroup: str | None
    sgroup: str | None
    fsgroup: str | None
    cls: str | None
    ni: int | None
    pri: int | None
    rtprio: int | None
    psr: int | None
    started: datetime.datetime | None
    elapsed: int | None
    seconds: int | None
    sz: int | None
    minfl: int | None
    majfl: int | None
    wchan: str | None
    blocked: str | None
    ignored: str | None
    caught: str | None
    cgroup: str | None
    label: str | None
    cgroupns: int | None
    ipcns: int | None
    mntns: int | None
    netns: int | None
    pidns: int | None
    userns: int | None
    utsns: int | None
    exe: str | None
    depth: int

class Queues(Record):
    kind: str | None
    pid: int | None
    comm: str | None
    fd: int | None
    name: str | None
    number: int | None
    type: int | None
    size: int | None
    data: str | None

class Route(Record):
    destination: str | None
    gateway: str | None
    genmask: str | None
    flags: str | None
    metric: int | None
    ref: int | None
    use: int | None
    iface: str | None
    mss: int | None
    window: int | None
    irtt: int | None

class Security(Record):
    kind: str | None
    name: str | None
    value: str | None
    file: str | None
    line: int | None

class Ss(Record):
    netid: str | None
    state: str | None
    recv_q: int | None
    send_q: int | None
    local: str | None
    peer: str | None
    process: str | None
    timer: str | None
    uid: int | None
    user: str | None
    inode: int | None
    sk: int | None
    more: str | None
    rto: int | None
    ato: int | None
    qack: int | None
    cwnd: int | None
    ssthresh: int | None
    tcp: str | None
    memory: str | None

class Tc(Record):
    iface: str | None
    object: str | None
    kind: str | None
    handle: str | None
    parent: str | None
    prio: int | None
    protocol: str | None
    chain: int | None
    options: str | None
    bytes: int | None
    packets: int | None
    drops: int | None
    overlimits: int | None
    requeues: int | None
    backlog: int | None
    qlen: int | None
    more: str | None

class Timeline(Record):
    time: datetime.datetime | None
    macb: str | None
    source: str | None
    event: str | None
    user: str | None
    what: str | None

class Tinyps(Record):
    pid: int | None
    name: str | None

class Trace(Record):
    buffer: str | None
    seconds: str | None
    when: datetime.datetime | None
    cpu: int | None
    pid: int | None
    comm: str | None
    event: str | None
    text: str | None

class Uname(Record):
    sysname: str | None
    nodename: str | None
    release: str | None
    version: str | None
    machine: str | None
    domainname: str | None

class Uptime(Record):
    now: datetime.datetime | None
    up: datetime.timedelta | None
    booted: datetime.datetime | None
    load1: str | None
    load5: str | None
    load15: str | None
    running: int | None
    threads: int | None

class Users(Record):
    kind: str | None
    name: str | None
    uid: int | None
    gid: int | None
    groups: str | None
    home: str | None
    shell: str | None
    password: str | None
    changed: datetime.datetime | None
    expires: datetime.datetime | None
    age: str | None
    detail: str | None
    mark: str | None
    file: str | None
    line: int | None
    hash: str | None

class Vmstat(Record):
    r: int | None
    b: int | None
    swpd: int | None
    free: int | None
    buff: int | None
    cache: int | None
    si: int | None
    so: int | None
    bi: int | None
    bo: int | None
    intr: int | None
    cs: int | None
    us: int | None
    sy: int | None
    id: int | None
    wa: int | None
    st: int | None
    value: int | None
    what: str | None
    inact: int | None
    active: int | None
    disk: str | None
    r_total: int | None
    r_merged: int | None
    r_sectors: int | None
    r_ms: int | None
    w_total: int | None
    w_merged: int | None
    w_sectors: int | None
    w_ms: int | None
    cur: int | None
    sec: int | None

class Wireguard(Record):
    iface: str | None
    public: str | None
    private: str | None
    port: int | None
    fwmark: int | None
    preshared: str | None
    endpoint: str | None
    allowed: str | None
    handshake: datetime.datetime | None
    received: int | None
    sent: int | None
    keepalive: int | None

class Xfrm(Record):
    source: str | None
    destination: str | None
    proto: str | None
    spi: int | None
    reqid: int | None
    mode: str | None
    algorithms: str | None
    flags: str | None
    replay: int | None
    encap: str | None
    selector: str | None
    mark: str | None
    if_id: int | None
    limits: str | None
    bytes: int | None
    packets: int | None
    added: datetime.datetime | None
    used: datetime.datetime | None
    more: str | None
    dir: str | None
    action: str | None
    priority: int | None
    index_: int | None
    templates: str | None

class Xtables(Record):
    family: str | None
    table: str | None
    chain: str | None
    number: int | None
    packets: int | None
    bytes: int | None
    rule: str | None
    text: str | None

class Yara(Record):
    rule: str | None
    pattern: str | None
    kind: str | None
    pid: int | None
    comm: str | None
    at: int | None
    paddr: int | None
    offset: int | None
    size: int | None
    content: str | None
    path: str | None
    also: str | None

class ToolMethods:
    def arp(self, *, interface: str | None = ..., all: bool = ..., numeric: bool = ...) -> Table[Arp]:
        """IPv4 neighbours and their hardware addresses, as `arp -n` shows them."""

    def bash(self, *, pid: int | Iterable[int] = ..., scan: bool = ...) -> Table[Bash]:
        """Commands that were typed at shells, with their times, from the shells' memory."""

    def bpf(
        self,
        *,
        maps: bool = ...,
        links: bool = ...,
        btf: bool = ...,
        map: int | Iterable[int] = ...,
        prog: int | Iterable[int] = ...,
    ) -> Table[Bpf]:
        """eBPF programs, maps and their contents, links, types, owners, attach points, translated code."""

    def cat(
        self, path: str | Iterable[str], *, offset: int | None = ..., length: int | None = ...
    ) -> Table[Cat]:
        """The content of a file of the guest, as far as its memory holds it."""

    def check(self) -> Table[Check]:
        """Kernel code, constants and tables of functions that differ from the trusted kernel's."""

    def conntrack(self, *, expect: bool = ..., inet: bool = ..., inet6: bool = ...) -> Table[Conntrack]:
        """Tracked connections with both directions, translation, state and counters; expectations."""

    def containers(
        self, *, engine: str | None = ..., id: str | None = ..., processes: bool = ...
    ) -> Table[Containers]:
        """Containers of docker, podman, containerd, CRI-O, LXC and systemd-nspawn, with their processes."""

    def credentials(self, *, suspicious: bool = ...) -> Table[Credentials]:
        """User ids, capabilities, seccomp and namespaces of each process, and rights it was not given."""

    def dir(self, path: str) -> Table[Dir]:
        """List a directory of the guest, as `ls -l` does."""

    def dmesg(
        self,
        *,
        level: str | Iterable[str] = ...,
        facility: str | Iterable[str] = ...,
        ctime: bool = ...,
        decode: bool = ...,
    ) -> Table[Dmesg]:
        """The kernel's log, with levels, facilities and times of day."""

    def environ(self, *, pid: int | Iterable[int] = ...) -> Table[Environ]:
        """Environment variables of processes."""

    def files(
        self,
        *,
        path: str | None = ...,
        mount: str | None = ...,
        deleted: bool = ...,
        executable: bool = ...,
        changed_after: str | None = ...,
    ) -> Table[Files]:
        """Files that the guest's memory knows of, and how much of each it holds."""

    def free(
        self,
        *,
        bytes: bool = ...,
        kibi: bool = ...,
        mebi: bool = ...,
        gibi: bool = ...,
        kilo: bool = ...,
        mega: bool = ...,
        giga: bool = ...,
        human: bool = ...,
        si: bool = ...,
        wide: bool = ...,
        total: bool = ...,
        lohi: bool = ...,
    ) -> Table[Free]:
        """Memory and swap, used and free, in KiB."""

    def getpid(self) -> Table[Getpid]:
        """The process that each CPU was running at capture time."""

    def getprocname(self, pid: int) -> Table[Getprocname]:
        """The name of a process."""

    def gettime(self) -> Table[Gettime]:
        """The guest's clocks at capture time."""

    def hidden(self, *, probe: int | None = ...) -> Table[Hidden]:
        """Processes, modules, code and sockets that one of the kernel's lists names and another does not."""

    def hooks(self, *, suspicious: bool = ..., kind: str | Iterable[str] = ...) -> Table[Hooks]:
        """Functions that the kernel calls by pointers, checked against the trusted code."""

    def hostname(self) -> Table[Hostname]:
        """The host name."""

    def iostat(
        self,
        *,
        extended: bool = ...,
        kilo: bool = ...,
        mega: bool = ...,
        processors: bool = ...,
        disks: bool = ...,
        all: bool = ...,
        disk: str | Iterable[str] = ...,
    ) -> Table[Iostat]:
        """Transfers of disks since boot, in numbers and kilobytes a second."""

    def ip(
        self,
        *,
        link: bool = ...,
        neigh: bool = ...,
        route: bool = ...,
        rule: bool = ...,
        inet: bool = ...,
        inet6: bool = ...,
        all: bool = ...,
    ) -> Table[Ip]:
        """Links and addresses; neighbours, routes and rules, as ip shows them."""

    def keys(self, *, secrets: bool = ...) -> Table[Keys]:
        """Keys in keyrings, of encrypted disks, directories and TLS; with --secrets what they hold."""

    def logins(
        self, *, source: str | Iterable[str] = ..., user: str | None = ..., marked: bool = ...
    ) -> Table[Logins]:
        """Logins, failed logins, boots and sessions, as last, lastb, who and lastlog show them."""

    def lsmod(self) -> Table[Lsmod]:
        """Loaded kernel modules, their users, state and address."""

    def lsof(
        self,
        *,
        pid: int | Iterable[int] = ...,
        uid: int | Iterable[int] = ...,
        inet: bool = ...,
        port: int | Iterable[int] = ...,
        unlinked: bool = ...,
        tasks: bool = ...,
    ) -> Table[Lsof]:
        """Open files of processes, as `lsof -nP` shows them."""

    def malfind(self, *, pid: int | Iterable[int] = ..., disassemble: bool = ...) -> Table[Malfind]:
        """Code of processes that no file explains or that differs from its file."""

    def maps(self, *, pid: int | Iterable[int] = ..., smaps: bool = ...) -> Table[Maps]:
        """Memory mappings of processes, as `pmap` shows them."""

    def memdump(self, pid: int, *, out: str | None = ..., limit: int | None = ...) -> Table[Memdump]:
        """The memory of a process as an ELF core, for gdb and its like."""

    def mounts(
        self, *, pid: int | Iterable[int] = ..., tree: bool = ..., unmounted: bool = ...
    ) -> Table[Mounts]:
        """Mounted file systems, as `findmnt` shows them."""

    def mpstat(
        self, *, cpu: str | Iterable[str] = ..., processors: bool = ..., interrupts: str | None = ...
    ) -> Table[Mpstat]:
        """What each CPU spent its time on since boot, in percent."""

    def namespaces(
        self,
        *,
        type: str | Iterable[str] = ...,
        task: int | None = ...,
        processes: bool = ...,
        persistent: bool = ...,
    ) -> Table[Namespaces]:
        """Namespaces of every kind and the processes in them, as lsns shows them."""

    def netstat(
        self,
        *,
        tcp: bool = ...,
        udp: bool = ...,
        raw: bool = ...,
        sctp: bool = ...,
        unix: bool = ...,
        listening: bool = ...,
        all: bool = ...,
        program: bool = ...,
        extended: bool = ...,
        timers: bool = ...,
        numeric: bool = ...,
        route: bool = ...,
        interfaces: bool = ...,
        statistics: bool = ...,
        groups: bool = ...,
        inet: bool = ...,
        inet6: bool = ...,
    ) -> Table[Netstat]:
        """Sockets, routes, interfaces and protocol statistics, as netstat shows them."""

    def nft(
        self, *, ruleset: bool = ..., family: str | Iterable[str] = ..., table: str | Iterable[str] = ...
    ) -> Table[Nft]:
        """The ruleset of nftables: tables, chains, rules with counters, sets and their elements, objects."""

    def owner(self, address: str, *, offset: bool = ...) -> Table[Owner]:
        """Whose memory a physical address, or an offset in the image, is: processes, file, slab, free."""

    def persistence(
        self, *, kind: str | Iterable[str] = ..., marked: bool = ..., path: str | None = ...
    ) -> Table[Persistence]:
        """What starts by itself: cron, at, systemd, init, shells, udev, PAM, the linker and more."""

    def pidstat(
        self,
        *,
        pid: int | Iterable[int] = ...,
        processors: bool = ...,
        memory: bool = ...,
        io: bool = ...,
        switches: bool = ...,
        priorities: bool = ...,
        stack: bool = ...,
        tables: bool = ...,
        threads: bool = ...,
    ) -> Table[Pidstat]:
        """Processor time, memory and disk transfers of each process since boot."""

    def ps(
        self,
        *,
        pid: int | Iterable[int] = ...,
        threads: bool = ...,
        tree: bool = ...,
        every: bool = ...,
        full: bool = ...,
        columns: str | None = ...,
    ) -> Table[Ps]:
        """Processes, as `ps -ef` and `ps aux` show them."""

    def queues(self, *, pid: int | Iterable[int] = ..., full: bool = ...) -> Table[Queues]:
        """Data that nobody has read yet: in sockets, pipes, terminals, message queues."""

    def route(
        self, *, inet: bool = ..., inet6: bool = ..., extended: bool = ..., numeric: bool = ...
    ) -> Table[Route]:
        """Routes of IPv4 and IPv6, as `route -n` shows them."""

    def security(self, *, kind: str | None = ...) -> Table[Security]:
        """Security modules, their profiles, audit's state and rules, and settings that guard the kernel."""

    def ss(
        self,
        *,
        tcp: bool = ...,
        udp: bool = ...,
        raw: bool = ...,
        unix: bool = ...,
        packet: bool = ...,
        netlink: bool = ...,
        sctp: bool = ...,
        mptcp: bool = ...,
        vsock: bool = ...,
        xdp: bool = ...,
        tipc: bool = ...,
        smc: bool = ...,
        inet: bool = ...,
        inet6: bool = ...,
        listening: bool = ...,
        all: bool = ...,
        state: str | Iterable[str] = ...,
        processes: bool = ...,
        timers: bool = ...,
        extended: bool = ...,
        info: bool = ...,
        memory: bool = ...,
        numeric: bool = ...,
    ) -> Table[Ss]:
        """Sockets of all kinds with states, timers, queues and owners, as ss shows them."""

    def tc(
        self,
        *,
        disciplines: bool = ...,
        classes: bool = ...,
        filter: bool = ...,
        interface: str | Iterable[str] = ...,
    ) -> Table[Tc]:
        """Queueing disciplines, classes and filters of traffic with their actions, as tc shows them."""

    def timeline(
        self,
        *,
        source: str | Iterable[str] = ...,
        after: str | None = ...,
        before: str | None = ...,
        body: bool = ...,
        timesketch_csv: bool = ...,
        jsonl: bool = ...,
    ) -> Table[Timeline]:
        """Everything that has a time, in one table: processes, files, logins, log, histories, passwords."""

    def tinyps(self) -> Table[Tinyps]:
        """Id and name of each process."""

    def trace(self) -> Table[Trace]:
        """The kernel's trace buffers: events, functions and notes that were recorded."""

    def uname(self) -> Table[Uname]:
        """Kernel name, host name, release, version and machine."""

    def uptime(self, *, since: bool = ..., pretty: bool = ...) -> Table[Uptime]:
        """Capture time, time since boot, load averages."""

    def users(
        self, *, kind: str | Iterable[str] = ..., marked: bool = ..., secrets: bool = ...
    ) -> Table[Users]:
        """Accounts, groups, sudo rules and authorized keys, by the guest's own files."""

    def vmstat(
        self,
        *,
        counters: bool = ...,
        active: bool = ...,
        disks: bool = ...,
        disksum: bool = ...,
        unit: str | None = ...,
        wide: bool = ...,
    ) -> Table[Vmstat]:
        """Processes, memory, swapping, disks and CPUs: averages since boot."""

    def wireguard(self, *, secrets: bool = ...) -> Table[Wireguard]:
        """WireGuard interfaces and peers: keys, endpoints, allowed addresses, last handshakes."""

    def xfrm(self, *, policy: bool = ..., secrets: bool = ...) -> Table[Xfrm]:
        """Security associations and policies of IPsec, as `ip xfrm` shows them."""

    def xtables(
        self, *, save: bool = ..., table: str | Iterable[str] = ..., inet: bool = ..., inet6: bool = ...
    ) -> Table[Xtables]:
        """The legacy tables of iptables and ip6tables with counters, as iptables-save prints them."""

    def yara(
        self,
        rules: str,
        *,
        scope: str | Iterable[str] = ...,
        pid: int | Iterable[int] = ...,
        jobs: int | None = ...,
        resume: str | None = ...,
    ) -> Table[Yara]:
        """Matches of YARA rules in memory: of processes, files, the kernel, and free memory."""
    def session(self) -> GuestKernel: ...
