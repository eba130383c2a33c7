"""What the figures were measured on: without it, a figure is worth nothing to others."""

import os
import platform
import re
from importlib.metadata import version
from pathlib import Path

from benchmarks.rival import REQUIREMENTS

_LIBRARIES = ("tensorflow", "keras", "numpy")


def describe(peer: tuple[str, ...] = ("alibi", *_LIBRARIES), lock: Path = REQUIREMENTS) -> str:
    """One line: CPU, the cores that may be used, memory, operating system, and the versions on both sides.

    peer: the packages of the peer that are named, in the versions of its lock file.
    """
    cores = len(os.sched_getaffinity(0))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    ours = f"Python {platform.python_version()}, " + _versions({name: version(name) for name in _LIBRARIES})
    pins = dict(re.findall(r"^([a-z-]+)(?:\[.*\])?==([^ ]+)", lock.read_text(), re.MULTILINE))
    theirs = _versions({name: pins[name] for name in peer})
    host = f"{_cpu()}, {cores} of {os.cpu_count()} cores, {memory:.0f} GiB, {_system()}"
    return f"{host}; ours on {ours}; the peer on {theirs}"


def _versions(versions: dict[str, str]) -> str:
    return ", ".join(f"{name} {number}" for name, number in versions.items())


def _cpu() -> str:
    found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return found.group(1) if found else platform.machine()


def _system() -> str:
    return f"{platform.freedesktop_os_release()['PRETTY_NAME']}, Linux {platform.release()}"
