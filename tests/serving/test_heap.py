"""Large blocks stay out of the heap, whatever was freed before."""

import subprocess
import sys

import pytest

# Frees a block of 30 MB, which is what raises glibc's bound, and then holds one of 8.
_PROGRAM = """
import ctypes
from azeros.serving.heap import keep_heap_dense
if {fixed}:
    keep_heap_dense()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
libc.mallinfo2.restype = type("Info", (ctypes.Structure,), {{"_fields_": [(str(i), ctypes.c_size_t) for i in range(10)]}})
libc.free(libc.malloc(30_000_000))
before = libc.mallinfo2()
libc.malloc(8_000_000)
print(getattr(libc.mallinfo2(), "4") - getattr(before, "4") >= 8_000_000)  # hblkhd: bytes in blocks of their own
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc")
@pytest.mark.parametrize("fixed", [False, True])
def test_a_large_block_is_mapped_by_itself(fixed: bool) -> None:
    command = [sys.executable, "-c", _PROGRAM.format(fixed=fixed)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == str(fixed)
