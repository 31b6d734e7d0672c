"""Memory of large tensors is kept by the process, in threads too, where the C library can do so."""

import os
import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys, threading
import torch
from r2d2.processor.allocator import keep_memory
def work():
    if sys.argv[1] == "keep":
        assert keep_memory()
    for _ in range(10):
        torch.zeros(2**24).add_(1)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.zeros(2**24).add_(1)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
# As Ray Train does it.
thread = threading.Thread(target=work)
thread.start()
thread.join()
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc keeps memory")
def test_large_tensors_need_no_new_pages():
    def faults(how):
        command = [sys.executable, "-c", PROGRAM, how]
        environment = {**os.environ, **({"MALLOC_ARENA_MAX": "1"} if how == "keep" else {})}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        return int(done.stdout)

    # 64 MiB each: pages of 4 KiB, or of 2 MiB.
    assert faults("default") > 300
    assert faults("keep") < faults("default") / 10


GIVES_BACK = """
import re, sys
from pathlib import Path
import torch
from r2d2.processor.allocator import give_back, keep_memory
assert keep_memory()
def resident():
    return int(re.search(r"VmRSS:\\s*(\\d+)", Path("/proc/self/status").read_text())[1]) // 1024
before = resident()
blocks = [torch.ones(2**24) for _ in range(4)]
del blocks[::2]  # what is last stays, so that the heap cannot shrink at its end
kept = resident() - before
assert give_back()
print(kept, resident() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc keeps memory")
def test_kept_memory_can_be_given_back():
    done = subprocess.run([sys.executable, "-c", GIVES_BACK], capture_output=True, text=True, check=True)
    kept, left = map(int, done.stdout.split())
    # MiB; two of four blocks of 64 are in use.
    assert kept > 240
    assert left < 160
