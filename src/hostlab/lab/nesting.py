"""The kernel's limits of namespaces, which say of themselves only that no space is left."""

from __future__ import annotations

import errno

from hostlab.errors import Unsupported


def explained(error: OSError) -> OSError | Unsupported:
    """What is to be raised for an error of clone3(2) or unshare(2); most are well as they are.

    ENOSPC and EUSERS are the limits of namespaces(7): hard to guess from the number.
    """
    if error.errno not in (errno.ENOSPC, errno.EUSERS):
        return error
    return Unsupported(
        "namespace-limit",
        "the kernel makes no further namespace: 32 levels of nesting are reached, or the limit"
        " in /proc/sys/user/max_*_namespaces",
        hint="`hostlab namespaces` shows how deep and how many",
    )
