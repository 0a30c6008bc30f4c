"""The tools: one module each, loaded when asked for.

To add one: a module here that exports `TOOL`, its name in `NAMES`, and a plugin stub of that name (a test
holds the two lists together).
"""

from __future__ import annotations

from importlib import import_module
from typing import cast

from hybridbridge_vol.toolkit.tool import Tool

NAMES = (
    "arp",
    "bash",
    "bpf",
    "cat",
    "check",
    "conntrack",
    "containers",
    "credentials",
    "dir",
    "dmesg",
    "environ",
    "files",
    "free",
    "getpid",
    "getprocname",
    "gettime",
    "hidden",
    "hooks",
    "hostname",
    "iostat",
    "ip",
    "keys",
    "logins",
    "lsmod",
    "lsof",
    "malfind",
    "maps",
    "memdump",
    "mounts",
    "mpstat",
    "namespaces",
    "netstat",
    "nft",
    "owner",
    "persistence",
    "pidstat",
    "ps",
    "queues",
    "route",
    "security",
    "ss",
    "tc",
    "timeline",
    "tinyps",
    "trace",
    "uname",
    "uptime",
    "users",
    "vmstat",
    "wireguard",
    "xfrm",
    "xtables",
    "yara",
)


def load(name: str) -> Tool:
    """The tool of that name, one of `NAMES`."""
    return cast(Tool, import_module(f"hybridbridge_vol.tools.{name}").TOOL)
