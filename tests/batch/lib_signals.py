#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Work that takes seconds is interrupted, terminated, timed out, and loses its terminal; each time in the middle, which is waited for and not guessed. It must end
soon, with the code of the contract, leaving no temporary, no half-written name and no process."""
import fcntl
import os
import pty
import select
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
from pathlib import Path

binary, build = os.environ["BL_BIN"], Path(os.environ["BL_BUILD_DIR"])
SOON = 20  # seconds, of sanitizers on a small machine; what did not stop at all took longer
work = Path(tempfile.mkdtemp())
problems = []
env = {**os.environ, "HOME": str(work / "home"), "XDG_STATE_HOME": str(work / "state"), "XDG_CONFIG_HOME": str(work / "config"), "LC_ALL": "C.UTF-8",
       "TERM": "xterm-256color", "TMPDIR": str(work / "tmp")}


def complain(text):
    problems.append(text)
    print("FAIL ", text)


def temporaries():
    return sorted(p.name for p in (work / "out").iterdir() if p.name.endswith(".tmp"))


def wait(condition, what, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            complain(f"{what} did not come in {seconds} s")
            return False
        time.sleep(0.002)
    return True


def clean():
    for p in (work / "out").iterdir():
        shutil.rmtree(p) if p.is_dir() else p.unlink()


def busy(pid):
    """seconds of processor time so far: shows that the work has begun"""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def has_child(pid):
    """the program that a bench drives is there; threads end between a look and the next"""
    try:
        return any(task.read_text().split() for task in Path(f"/proc/{pid}/task").glob("*/children"))  # any thread may be the one that started it
    except OSError:
        return False


def check_end(what, code, seconds, want):
    if code != want:
        complain(f"{what}: exit {code}, not {want}")
    if seconds > SOON:
        complain(f"{what}: took {seconds:.1f} s to end")
    if list((work / "out").iterdir()):
        complain(f"{what}: left {[p.name for p in (work / 'out').iterdir()]}")
    print(f"{'ok   ' if not problems else '     '} {what}: exit {code} after {seconds:.2f} s")


def signalled(what, args, sig, want, begun):
    clean()
    p = subprocess.Popen([binary, *args], cwd=work / "out", env=env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        wait(lambda: p.poll() is not None or begun(p), f"{what}: the middle")
        if p.poll() is not None:
            return complain(f"{what}: was over before it could be interrupted (exit {p.returncode}): {p.stderr.read()!r}")
        start = time.monotonic()
        p.send_signal(sig)
        try:
            err = p.communicate(timeout=3 * SOON)[1]
        except subprocess.TimeoutExpired:
            return complain(f"{what}: goes on {3 * SOON} s later")
        check_end(what, p.returncode, time.monotonic() - start, want)
        if len([line for line in err.split(b"\n") if line.startswith(b"bitlathe: ")]) != 1:
            complain(f"{what}: not one line of error: {err!r}")
    finally:
        p.kill()
        p.wait()


def lost_terminal(what, steps):
    """the workbench exports while its terminal goes away; the kernel and the shell both tell it"""
    clean()
    pid, fd = pty.fork()
    if pid == 0:
        os.chdir(work / "out")
        asan = env.get("ASAN_OPTIONS", "") + ":detect_leaks=0"  # ncurses keeps the terminal's description
        os.execve(binary, ["bitlathe", str(model)], {**env, "ASAN_OPTIONS": asan.lstrip(":")})
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    seen = bytearray()

    def read():
        if select.select([fd], [], [], 0.01)[0]:
            seen.extend(os.read(fd, 65536))
        return seen

    def say(text, answer):
        seen.clear()
        os.write(fd, text)
        wait(lambda: answer in read(), f"{what}: {answer!r}")

    code = None
    try:
        if wait(lambda: b"scheme" in read(), f"{what}: the first screen"):
            say(b":preset W8A8\r", b"W8A8")
            say(b":export lost.zip\r", b"lost.zip")
            os.write(fd, b"\r")
            if wait(lambda: read() is not None and temporaries(), f"{what}: the export"):
                start = time.monotonic()
                for step in steps:
                    if step == "close":
                        os.close(fd)
                        fd = -1
                    else:
                        os.kill(pid, step)
                    time.sleep(0.01)

                def ended():
                    nonlocal code
                    if fd >= 0 and select.select([fd], [], [], 0)[0]:
                        try:
                            os.read(fd, 65536)
                        except OSError:
                            pass  # its side is closed
                    got, status = os.waitpid(pid, os.WNOHANG)
                    if got:
                        code = os.waitstatus_to_exitcode(status)
                    return got

                if wait(ended, f"{what}: the end"):
                    check_end(what, code, time.monotonic() - start, 143)
    finally:
        if code is None:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        if fd >= 0:
            os.close(fd)


for name in ("out", "home", "state", "config", "tmp"):
    (work / name).mkdir()
try:
    model = work / "model"
    subprocess.run([build / "tests/tools/make_checkpoint", "exaone4-1.2b", model, "--blocks", "2"], check=True,
                   env={**os.environ, "ASAN_OPTIONS": "detect_leaks=0"})  # a tool that gives its memory back by ending
    mse = ["--set", "all=W4A16:rtn,observer=mse", "--threads", "1"]
    for sig, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 143)):
        signalled(f"export, {sig.name}", ["export", str(model), "--preset", "W8A8", "-o", "x.zip"], sig, code, lambda p: temporaries())
    signalled("export of a folder, SIGINT", ["export", str(model), "--preset", "W8A8", "-o", "x"], signal.SIGINT, 130, lambda p: temporaries())
    signalled("plan, SIGTERM", ["plan", str(model), *mse, "-o", "p.json"], signal.SIGTERM, 143, lambda p: busy(p.pid) > 0.1)
    signalled("bench, SIGTERM", ["bench", "export-zip", "--runs", "32", "--model", str(model)], signal.SIGTERM, 143, lambda p: temporaries())
    signalled("bench of keys, SIGINT", ["bench", "keys", "--model", str(model)], signal.SIGINT, 130, lambda p: has_child(p.pid))
    (work / "keys").write_text('= "all=W4A16:rtn,observer=mse" <Enter> wait')
    signalled("keys from a file, SIGINT", [str(model), "--threads", "1", "--keys", str(work / "keys")], signal.SIGINT, 130, lambda p: busy(p.pid) > 0.3)
    if any((work / "tmp").iterdir()):
        complain(f"bench left {[p.name for p in (work / 'tmp').iterdir()]}")

    clean()
    start = time.monotonic()
    r = subprocess.run([binary, "plan", str(model), *mse, "-o", "p.json", "--time-limit", "1"], cwd=work / "out", env=env, stdin=subprocess.DEVNULL, capture_output=True)
    check_end("plan, time limit", r.returncode, time.monotonic() - start, 124)

    lost_terminal("lost terminal", ["close"])
    lost_terminal("lost terminal, told twice", [signal.SIGHUP, signal.SIGHUP])
    lost_terminal("lost terminal, told by the shell too", ["close", signal.SIGHUP])
finally:
    shutil.rmtree(work)
print(f"{len(problems)} problems")
sys.exit(bool(problems))
