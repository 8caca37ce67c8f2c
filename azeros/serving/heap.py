"""The C library's heap, kept from growing."""

import ctypes
import os

_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8  # malloc.h
_LARGE = 2**20
_NUM_PRIMITIVES = "32"


def keep_heap_dense() -> None:
    """Let nothing stay between large blocks that come and go; for this process, before torch computes anything.

    glibc maps a large block by itself and gives it back when it is freed, but each such block raises the bound of what is
    large, up to 32 MB: then bodies, recordings and tensors of megabytes lie in the heap. oneDNN keeps 1024 of the
    convolutions that it prepared, one for each length of a clip. These are small blocks that stay where
    they were made, and what is free between them is too small for the next large one. Each thread has a heap
    of its own to fill so, unless all share one.
    """
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", _NUM_PRIMITIVES)
    if mallopt := getattr(ctypes.CDLL(None), "mallopt", None):  # glibc's
        mallopt(_M_MMAP_THRESHOLD, _LARGE)
        mallopt(_M_ARENA_MAX, 1)
