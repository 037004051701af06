# SPDX-License-Identifier: Apache-2.0
"""SIGKILL at random moments of `calibrate`: whatever is left in the cache, the next run ends with the same bytes. BL_TEST_KILLS: how many (3).
The store itself is killed 20 times in tests/unit/calib; here it is the whole program, with its threads, its lock and its model."""
import filecmp
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

source = pathlib.Path(os.environ["BL_SOURCE_DIR"])
binary = os.environ["BL_BIN"]
kills = int(os.environ.get("BL_TEST_KILLS", "3"))
work = pathlib.Path(tempfile.mkdtemp(prefix="bl-killed-"))
args = ["calibrate", str(source / "tests/models/tiny-exaone4"), "--data", str(source / "tests/data/prose.txt"), "--samples", "16", "--seqlen", "64",
        "--keep-windows", "4", "--device", "cpu", "-q"]


def files(folder):
    return {p.relative_to(folder): p for p in folder.rglob("*") if p.is_file()}


def start(cache):
    return subprocess.Popen([binary, *args, "--cache", cache], cwd=work, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def whole(cache):
    p = start(cache)
    err = p.communicate()[1]
    if p.returncode:
        sys.exit(f"FAILED: exit {p.returncode}: {err!r}")


try:
    begun = time.monotonic()
    whole("want")
    seconds = time.monotonic() - begun
    want = files(work / "want")
    random.seed(11)
    midway = late = 0
    for i in range(kills):
        p = start("c")
        time.sleep(seconds * (0.1 + 0.9 * random.random()))
        p.send_signal(signal.SIGKILL)
        late += p.wait() == 0
        p.stderr.close()
        left = files(work / "c") if (work / "c").exists() else {}
        midway += 0 < len(left) and set(left) != set(want)
        whole("c")
        got = files(work / "c")
        if set(got) != set(want):
            sys.exit(f"FAILED: after kill {i} the cache holds {sorted(map(str, set(got) ^ set(want)))} too much or too little")
        for name, path in got.items():
            if not filecmp.cmp(path, want[name], shallow=False):
                sys.exit(f"FAILED: after kill {i} {name} differs")
        shutil.rmtree(work / "c")
    print(f"ok    {kills} kills ({midway} with a part stored, {late} too late), each next run with the same bytes")
finally:
    shutil.rmtree(work)
