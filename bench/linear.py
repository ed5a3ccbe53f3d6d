#!/usr/bin/env python3
"""linear.py MODEL [LARGEST] -- the seconds and the memory that reading takes.

Reads 1, 4, 16 .. KiB up to LARGEST bytes (64 MiB), a process and a file each, as
one stream with `mambyte --perplexity'.  Writes a CSV: bytes; seconds, the start
of the program included; the most memory the process had (KiB); and by how much
that in use on the GPU grew (MiB), empty without one.  Other options of mambyte,
such as --device=cpu, come from the environment: MAMBYTE_OPTIONS.

SPDX-License-Identifier: MIT
"""

import os
import subprocess
import sys
import tempfile
import threading
import time

SAMPLE = ["nvidia-smi", "--query-gpu=memory.used", "--loop-ms=20",
          "--format=csv,noheader,nounits",
          "--id=" + os.environ.get("CUDA_VISIBLE_DEVICES", "0")]


class GpuMemory:
    """The memory of a GPU that is in use, by whomever, in MiB."""

    def __init__(self):
        self.most = None
        try:
            self.sampler = subprocess.Popen(SAMPLE, stdout=subprocess.PIPE,
                                            stderr=subprocess.DEVNULL,
                                            text=True)
        except FileNotFoundError:
            self.sampler = None
            return
        threading.Thread(target=self.watch, daemon=True).start()

    def watch(self):
        for line in self.sampler.stdout:
            if line.strip().isdigit():
                self.most = max(self.most or 0, int(line))

    def most_since(self, seconds=0):
        """The most since the last call, after a wait."""
        if self.sampler:
            time.sleep(seconds)
        most, self.most = self.most, None
        return most

    def close(self):
        if self.sampler:
            self.sampler.kill()


def read(model, path):
    """Seconds, and KiB of memory."""
    options = os.environ.get("MAMBYTE_OPTIONS", "").split()
    command = ["mambyte", "-q", "-m", model, *options, "--perplexity", path]
    start = time.monotonic()
    pid = os.posix_spawnp(command[0], command, os.environ,
                          file_actions=[(os.POSIX_SPAWN_OPEN, 1, os.devnull,
                                         os.O_WRONLY, 0)])
    _, status, usage = os.wait4(pid, 0)
    seconds = time.monotonic() - start
    if status != 0:
        sys.exit("linear.py: mambyte failed")
    return seconds, usage.ru_maxrss


def write_text(path, n):
    """n bytes that do not repeat soon: numbers, a line each."""
    with open(path, "wb") as out:
        number = 0
        while n > 0:
            lines = b"".join(b"%d\n" % i for i in range(number, number + 10000))
            out.write(lines[:n])
            n -= len(lines)
            number += 10000


def main():
    if len(sys.argv) not in (2, 3):
        sys.exit("usage: linear.py MODEL [LARGEST]")
    model = sys.argv[1]
    largest = int(sys.argv[2]) if len(sys.argv) == 3 else 64 << 20
    gpu = GpuMemory()
    print("bytes,seconds,memory_KiB,gpu_MiB")
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "text")
        write_text(path, 1024)
        read(model, path)  # the files of the program are cached now
        n = 1024
        while n <= largest:
            write_text(path, n)
            gpu.most_since()
            before = gpu.most_since(seconds=0.3)
            seconds, memory = read(model, path)
            most = gpu.most_since()
            own = "" if None in (before, most) else most - before
            print(f"{n},{seconds:.3f},{memory},{own}", flush=True)
            n *= 4
    gpu.close()


if __name__ == "__main__":
    main()
