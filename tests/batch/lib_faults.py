#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Every write, every allocation and every moment may be the last: whatever happens, nothing half-written stands under a final name, no temporary stays behind a
run that ended by itself, the source is untouched, and a rerun gives the same bytes."""
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

source, binary = Path(os.environ["BL_SOURCE_DIR"]), os.environ["BL_BIN"]
model = str(source / "tests/models/tiny-exaone4")
slow = "-fsanitize" in os.environ.get("BL_FLAGS", "") or "build-asan" in binary or "build-tsan" in binary
work = Path(tempfile.mkdtemp())
problems = []


def digest(path):
    if Path(path).is_dir():
        return [(p.name, hashlib.sha256(p.read_bytes()).hexdigest()) for p in sorted(Path(path).iterdir())]
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def run(args, **extra):
    env = {**os.environ, "HOME": str(work / "home"), "LC_ALL": "C.UTF-8", **extra}
    return subprocess.run([binary, *args], env=env, stdin=subprocess.DEVNULL, capture_output=True, cwd=work, timeout=300)


def complain(text):
    problems.append(text)
    print("FAIL ", text)


def leftovers():
    return [p.name for p in work.rglob("*") if p.name.endswith(".tmp")]


def clean():
    for p in work.iterdir():
        shutil.rmtree(p) if p.is_dir() else p.unlink()
    (work / "home").mkdir()


def sweep(kind, variable, args, out, allowed, every):
    """the n-th call fails, for n = 1, 2, 3 ... until nothing fails any more"""
    n = step = 1
    failed = 0
    while True:
        clean()
        r = run(args, **{variable: str(n)})
        if r.returncode == 0:
            break
        failed += 1
        if r.returncode not in allowed:
            complain(f"{kind} {n} of {args[0]}: exit {r.returncode}: {r.stderr[-200:]!r}")
        elif r.stderr.count(b"\n") != 1:
            complain(f"{kind} {n} of {args[0]}: not one line: {r.stderr!r}")
        if (work / out).exists() and digest(work / out) != want[out]:  # complete, when only the folder's fsync failed
            complain(f"{kind} {n} of {args[0]}: {out} stands there after a failure")
        if variable != "BL_TEST_FAIL_ALLOC" and leftovers():
            complain(f"{kind} {n} of {args[0]}: left {leftovers()}")
        if len(problems) > 5 or n > 20000:
            break
        step = 1 if n < every else 1 + n // 12
        n += step
    print(f"ok    {kind} failures of {args[0]} -o {out}: {failed} tried, the last one the {n}th")


before = digest(model)
zip_args = ["export", model, "--preset", "W8A8", "-o", "a.zip", "-q"]
dir_args = ["export", model, "--preset", "W4A16", "-o", "a", "-q"]
plan_args = ["plan", model, "--preset", "W8A8", "-o", "a.json", "-q"]
clean()
run(zip_args)
run(dir_args)
run(plan_args)
want = {name: digest(work / name) for name in ("a.zip", "a", "a.json")}
want_zip, want_dir = want["a.zip"], want["a"]
for args, out in ((plan_args, "a.json"), (zip_args, "a.zip"), (dir_args, "a")):
    sweep("write", "BL_TEST_FAIL_WRITE", args, out, {1, 6}, 40 if slow else 400)
    sweep("allocation", "BL_TEST_FAIL_ALLOC", args, out, {1, 3, 6}, 30 if slow else 120)

# killed at any moment, then run again
random.seed(42)
for i in range(4 if slow else 12):
    clean()
    p = subprocess.Popen([binary, *zip_args], cwd=work, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(random.random() * (0.3 if slow else 0.05))
    p.send_signal(signal.SIGKILL)
    p.wait()
    if (work / "a.zip").exists() and digest(work / "a.zip") != want_zip:
        complain("SIGKILL left another file under the final name")
    r = run([*zip_args, "--force"])
    if r.returncode or digest(work / "a.zip") != want_zip:
        complain(f"after SIGKILL the rerun differs: {r.stderr!r}")
    if leftovers():
        complain(f"after SIGKILL and a rerun: {leftovers()}")
print("ok    SIGKILL at random moments, rerun with the same bytes")

for sig, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
    for i in range(4):
        clean()
        p = subprocess.Popen([binary, *dir_args], cwd=work, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        time.sleep(random.random() * (0.3 if slow else 0.04))
        p.send_signal(sig)
        err = p.communicate()[1]
        if p.returncode not in (0, code, -sig):  # -sig: it came before the handlers were there
            complain(f"{sig!r}: exit {p.returncode}: {err!r}")
        if p.returncode == 0 and digest(work / "a") != want_dir:
            complain(f"{sig!r}: other bytes")
        if p.returncode == code and ((work / "a").exists() or leftovers()):
            complain(f"{sig!r}: something was left: {leftovers()}")
print("ok    SIGINT and SIGTERM")

# a disk that is full, a folder that may not be written to, a source that changes
clean()
copy = work / "source"
shutil.copytree(model, copy)
if os.geteuid():
    (work / "locked").mkdir(mode=0o555)
    r = run(["export", model, "--preset", "W8A8", "-o", "locked/a.zip", "-q"])
    if r.returncode != 1:
        complain(f"read-only folder: exit {r.returncode}")
with open(copy / "model.safetensors", "r+b") as f:
    f.truncate(5000000)
r = run(["export", str(copy), "--preset", "W8A8", "-o", "cut.zip", "-q"])
if r.returncode != 3 or (work / "cut.zip").exists():
    complain(f"a source that is cut short: exit {r.returncode}: {r.stderr!r}")
if digest(model) != before:
    complain("the source was written to")
shutil.rmtree(work)
print(f"{len(problems)} problems")
sys.exit(bool(problems))
