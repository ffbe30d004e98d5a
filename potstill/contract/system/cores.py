"""How many cores this process may use: its CPU affinity and its cgroup's quota, not what the machine has."""

from __future__ import annotations

import os
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")
OWN_CGROUP = Path("/proc/self/cgroup")


def usable_cores() -> int:
    """Whole cores that this process may use, at least 1."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, int(min(affinity, cgroup_cores(CGROUP, OWN_CGROUP))))


def cgroup_cores(root: Path, own: Path) -> float:
    """Cores that the cgroup's quota pays for, of the tightest group on the way up; infinite without a quota.

    Args:
        root: where the cgroup file system is mounted.
        own: the file that says which groups this process is in.
    """
    places = {root, root / "cpu"}
    for line in _text(own).splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers in ("", "cpu", "cpu,cpuacct"):
            group = root / controllers / path.lstrip("/")
            places.update([group, *group.parents])
    return min((_quota(place) for place in places if place.is_relative_to(root)), default=float("inf"))


def _quota(group: Path) -> float:
    """Cores of one group: `cpu.max` of version 2, or the two files of version 1; infinite without a quota."""
    fields = _text(group / "cpu.max").split() or [
        _text(group / "cpu.cfs_quota_us").strip(),
        _text(group / "cpu.cfs_period_us").strip(),
    ]
    quota, period = fields
    return int(quota) / int(period) if quota.isdigit() and period.isdigit() and int(period) else float("inf")


def _text(path: Path) -> str:
    """The file's text, or nothing if there is none."""
    try:
        return path.read_text(encoding="ascii")
    except OSError:
        return ""
