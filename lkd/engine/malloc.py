"""Settings of the C library's memory allocator for training on CPUs."""

import ctypes
import platform

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""Parameter numbers from glibc's malloc.h."""


def keep_freed_memory() -> None:
    """Keep freed memory in this process, with glibc; without effect elsewhere.

    A training step frees its activations in the backward pass. By default glibc returns this memory to the system and
    gets it back page by page in the next step, which takes up to an eighth of the step's time.

    Example:
        >>> from lkd.engine.malloc import keep_freed_memory
        >>> keep_freed_memory()
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(_TRIM_THRESHOLD, 2**31 - 1)
        libc.mallopt(_MMAP_THRESHOLD, 2**25)
