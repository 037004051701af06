# SPDX-License-Identifier: Apache-2.0
"""SIGKILL at random moments of `calibrate`, and of `quantize -o` with a method that trains: whatever is left, the next run ends with the same bytes.
BL_TEST_KILLS: how many of the first (3), half of that of the other. The store itself is killed 20 times in tests/unit/calib; here it is the whole program, with its threads, its lock and its model."""
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


quantize = ["quantize", str(source / "tests/models/tiny-exaone4"), "--set", "all=W4A16:tune,epochs=2,batch=2,start_iters=2", "--device", "cpu", "-q"]


def start(cache, what=None):
    return subprocess.Popen([binary, *(what or args), "--cache", cache], cwd=work, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def whole(cache, what=None):
    p = start(cache, what)
    err = p.communicate()[1]
    if p.returncode:
        sys.exit(f"FAILED: exit {p.returncode}: {err!r}")


def quantized(cache, out):
    whole(cache, [*quantize, "-o", out, "--force"])


try:
    begun = time.monotonic()
    whole("want")
    seconds = time.monotonic() - begun
    shutil.copytree(work / "want", work / "plain")
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
    tune_kills = (kills + 1) // 2
    begun = time.monotonic()
    quantized("want", "whole")
    seconds = time.monotonic() - begun
    want = files(work / "whole")
    late = 0
    for i in range(tune_kills):
        shutil.rmtree(work / "c", ignore_errors=True)
        shutil.copytree(work / "plain", work / "c")
        p = start("c", [*quantize, "-o", "out", "--force"])
        time.sleep(seconds * (0.1 + 0.9 * random.random()))
        p.send_signal(signal.SIGKILL)
        late += p.wait() == 0
        p.stderr.close()
        if (work / "out").exists() and set(files(work / "out")) != set(want):
            sys.exit(f"FAILED: kill {i} of quantize left a half-written folder under the final name")
        quantized("c", "out")
        for name, path in files(work / "out").items():
            if not filecmp.cmp(path, want[name], shallow=False):
                sys.exit(f"FAILED: after kill {i} of quantize {name} differs")
        if left := [p for p in work.iterdir() if p.name.startswith(".")]:
            sys.exit(f"FAILED: after kill {i} of quantize {left} stays")
    print(f"ok    {tune_kills} kills of quantize ({late} too late), each next run with the same bytes")
finally:
    shutil.rmtree(work)
