#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs tests/batch/*.test: each in an empty folder with its own HOME. Lines:
  $ COMMAND               run by sh; "bitlathe" is the program under test, @MODEL the demo model, @SHARED the optional test data
  exit N                  of the command before (every command needs one)
  out TEXT | err TEXT     standard output or error contains TEXT          ! out TEXT   does not
  json PATH OP VALUE      PATH like units[0].name, len(units); OP == != > < has; VALUE as JSON
  exists FILE | missing FILE      same A B  files are equal bytes     write FILE TEXT (\\n, \\e are understood)
  needs @SHARED           skip this file when it is not there
Nothing may print an escape byte, errors are one line, and what people read ends at column 80 (names of files may be longer)."""
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

source, binary = Path(os.environ["BL_SOURCE_DIR"]), os.environ["BL_BIN"]
shared = Path(os.environ.get("BL_SHARED", source / "../shared")).resolve()
failures = ran = skipped = 0


def find(value, path):
    match = re.fullmatch(r"len\((.*)\)", path)
    if match:
        return len(find(value, match[1]))
    for part in re.findall(r"[^.\[\]]+|\[\d+\]", path):
        value = value[int(part[1:-1])] if part[0] == "[" else value[part]
    return value


def compare(got, op, want):
    return {"==": lambda: got == want, "!=": lambda: got != want, ">": lambda: got > want, "<": lambda: got < want, "has": lambda: want in got}[op]()


def run_file(path):
    global failures, ran, skipped
    result = None
    with tempfile.TemporaryDirectory() as folder:
        env = {"PATH": os.environ["PATH"], "HOME": folder + "/home", "LC_ALL": "C.UTF-8", "TERM": "xterm", "TZ": "UTC", "TMPDIR": folder}
        env.update({k: v for k, v in os.environ.items() if k.endswith("SAN_OPTIONS")})
        os.mkdir(folder + "/home")
        for number, line in enumerate(path.read_text().splitlines(), 1):
            line = line.strip()
            where = f"{path.name}:{number}: {line}"
            if not line or line[0] == "#":
                continue
            word, _, rest = line.partition(" ")
            try:
                if line.startswith("needs @SHARED"):
                    if not shared.is_dir():
                        skipped += 1
                        return print(f"skip  {path.name}: {shared} is not there")
                elif word == "$":
                    command = rest.replace("@MODEL", str(source / "tests/models/tiny-exaone4")).replace("@SHARED", str(shared))
                    command = re.sub(r"(^|[ (;&|])bitlathe ", rf"\1{binary} ", command)
                    result = subprocess.run(["sh", "-c", command], cwd=folder, env=env, stdin=subprocess.DEVNULL, capture_output=True, timeout=300)
                    out, err = result.stdout.decode("utf-8", "replace"), result.stderr.decode("utf-8", "replace")
                    ran += 1
                    assert "\033" not in out + err, "an escape byte was printed"
                    assert result.returncode >= 0, f"died of signal {-result.returncode}"
                    if "--json" not in rest and "--dump" not in rest:
                        wide = [text for text in out.splitlines() if len(text) > 80 and "/" not in text]
                        assert not wide, f"wider than 80 columns: {wide[:2]}"
                elif word == "exit":
                    assert result.returncode == int(rest), f"exit code {result.returncode}\n{out[-400:]}{err[-400:]}"
                    if result.returncode:
                        lines = [text for text in err.splitlines() if text.startswith("bitlathe: ")]
                        assert len(lines) == 1, f"not one line of error: {err[-400:]}"
                elif word in ("out", "err"):
                    assert rest in (out if word == "out" else err), f"got {(out if word == 'out' else err)[-600:]!r}"
                elif word == "!":
                    kind, _, text = rest.partition(" ")
                    assert text not in (out if kind == "out" else err), "it is there"
                elif word == "json":
                    name, op, want = rest.split(" ", 2)
                    got = find(json.loads(out), name)
                    assert compare(got, op, json.loads(want)), f"got {json.dumps(got)[:300]}"
                elif word == "exists":
                    assert os.path.exists(f"{folder}/{rest}"), "it does not"
                elif word == "missing":
                    assert not os.path.exists(f"{folder}/{rest}"), "it is there"
                elif word == "same":
                    a, b = rest.split()
                    assert Path(folder, a).read_bytes() == Path(folder, b).read_bytes(), "they differ"
                elif word == "write":
                    name, _, text = rest.partition(" ")
                    Path(folder, name).write_bytes(text.encode().decode("unicode_escape").replace("\\e", "\033").encode())
                else:
                    raise AssertionError("no such kind of line")
            except (AssertionError, KeyError, IndexError, ValueError, subprocess.TimeoutExpired) as problem:
                failures += 1
                return print(f"FAIL  {where}\n      {problem!r}")
    print(f"ok    {path.name}")


for test in sorted(Path(__file__).parent.glob("*.test")):
    run_file(test)
# the runner itself must be able to fail
sabotage = Path(tempfile.mkdtemp()) / "sabotage.test"
sabotage.write_text("$ bitlathe inspect @MODEL --json\nexit 0\njson model.layers == 9\n")
before = failures
sys.stdout, keep = open(os.devnull, "w"), sys.stdout
run_file(sabotage)
sys.stdout = keep
if failures != before + 1:
    print("FAIL  a wrong expectation was not noticed")
    failures = before + 1
else:
    failures = before
print(f"{ran} commands")
sys.exit(failures > 0)
