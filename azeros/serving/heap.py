"""The C library's heap, kept from growing.

glibc maps a large block by itself, and gives it back as soon as it is freed. But each such block raises the bound of
what is large, up to 32 MB: from then on bodies, recordings and tensors of megabytes lie in the heap, between small
blocks that stay, and what is free between those no large one fits into again.
"""

import ctypes

_M_MMAP_THRESHOLD = -3  # malloc.h
_LARGE = 2**20


def keep_large_blocks_apart() -> None:
    """Fix the bound for this process; does nothing where the C library is not glibc."""
    if mallopt := getattr(ctypes.CDLL(None), "mallopt", None):
        mallopt(_M_MMAP_THRESHOLD, _LARGE)
