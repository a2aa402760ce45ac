"""Open files: each connection takes one, and the usual limit of 1,024 is far below what one replica can hold."""

from __future__ import annotations

import resource


def allow_files(wanted: int) -> int:
    """Raise the process's limit of open files to `wanted`, or as far as it may; returns what is allowed now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return wanted if soft == resource.RLIM_INFINITY else soft
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return wanted
