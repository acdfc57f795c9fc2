"""What a CPU's training steps free and ask for again."""

import ctypes
import platform

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""glibc's numbers of these parameters, from malloc.h."""


def keep_freed_memory() -> None:
    """Let this process keep the memory that it frees, where glibc manages it; elsewhere nothing happens.

    A training step frees its activations in its backward pass. glibc then gives the memory back to the system, which
    hands it out again page by page in the next step: up to an eighth of the step's time.

    Example:
        >>> from lkd.engine.malloc import keep_freed_memory
        >>> keep_freed_memory()
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(_TRIM_THRESHOLD, 2**31 - 1)
        libc.mallopt(_MMAP_THRESHOLD, 2**25)
