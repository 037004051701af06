#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The rules of the layout, one function each: check.py RULE [ROOT]. A broken rule is printed as file:line: sentence and the
exit status is 1. tests/rules/<rule>.sh runs each on the tree and on trees broken on purpose."""
import os
import re
import sys

CODE = (".c", ".h", ".cu", ".cuh")
SCRIPTS = (".sh", ".py", ".cmake", ".txt")
FOLDERS = ("core", "kernels", "plugins", "tui", "themes", "tests")
LINES_WARN, LINES_FAIL = 600, 900


def files(root, folders, endings):
    for folder in folders:
        for base, names, found in os.walk(os.path.join(root, folder)):
            names[:] = sorted(n for n in names if n not in ("__pycache__", "models"))
            for name in sorted(found):
                if name.endswith(endings):
                    yield os.path.relpath(os.path.join(base, name), root)


def read(root, path):
    with open(os.path.join(root, path), encoding="utf-8", errors="replace") as f:
        return f.read()


def load_matrix(root):
    parts, system, only = {}, {}, {}
    for number, line in enumerate(read(root, "tests/rules/allow_matrix.txt").splitlines(), 1):
        line = line.split("#")[0].strip()
        if not line:
            continue
        left, colon, right = line.partition(":")
        if not colon:
            sys.exit(f"tests/rules/allow_matrix.txt:{number}: a ':' is missing")
        left, right = left.strip(), right.split()
        if left.startswith("only "):
            only[left[5:].strip(" <>")] = right
        elif left.endswith("<>"):
            system[left[:-2].strip()] = right
        else:
            parts[left] = right
    return parts, system, only


def under(path, part):
    return path == part or path.startswith(part + "/")


def own_part(path):
    """A plugin may not include its neighbour: its own part is its folder."""
    pieces = path.split("/")
    if pieces[0] == "plugins":
        return "/".join(pieces[:3])
    return "/".join(pieces[:2]) if pieces[0] == "core" else pieces[0]


def includes(root):
    parts, system, only = load_matrix(root)
    pattern = re.compile(r'^\s*#\s*include\s*(["<])([^">]+)[">]')
    for path in files(root, ("core", "kernels", "plugins", "tui"), CODE):
        match = [p for p in parts if under(path, p)]
        if not match:
            yield path, 1, "belongs to no part of tests/rules/allow_matrix.txt"
            continue
        part = max(match, key=len)
        allowed = parts[part] + ([own_part(path)] if part != path else [])
        system_here = next((names for p, names in system.items() if under(path, p)), None)
        for number, line in enumerate(read(root, path).splitlines(), 1):
            m = pattern.match(line)
            if not m:
                continue
            kind, name = m.groups()
            ours = name.split("/")[0] in FOLDERS
            if kind == '"' and name.startswith("generated_"):
                continue  # written by the build into its own folder
            if kind == "<" and not ours:
                if system_here is not None and name not in system_here:
                    yield path, number, f"<{name}> is not among the system headers of {part}"
                if name in only and path not in only[name]:
                    yield path, number, f"<{name}> may be included only by {' '.join(only[name])}"
            elif not ours:
                yield path, number, f'"{name}": includes are full paths from the top of the tree'
            elif not any(under(name, a) for a in allowed):
                yield path, number, f"{part} may not include {name}"


def sizes(root):
    for path in files(root, FOLDERS, CODE + (".sh", ".py")):
        n = read(root, path).count("\n")
        if n > LINES_FAIL:
            yield path, n, f"{n} lines, at most {LINES_FAIL}"
        elif n > LINES_WARN:
            print(f"warning: {path}: {n} lines, better at most {LINES_WARN}")


def spdx(root):
    top = [n for n in ("CMakeLists.txt", "Makefile", ".ci/run") if os.path.exists(os.path.join(root, n))]
    named = [p for p in files(root, FOLDERS, CODE + (".sh", ".py", ".cmake", "CMakeLists.txt", ".theme"))]
    for path in top + named:
        if not any("SPDX-License-Identifier: Apache-2.0" in line for line in read(root, path).split("\n")[:3]):
            yield path, 1, "the line 'SPDX-License-Identifier: Apache-2.0' is missing at the top"


def top_level(root):
    fixed = {"CMakeLists.txt", "CMakePresets.json", "README.md", "LICENSE", "Makefile", *FOLDERS}
    for name in sorted(os.listdir(root)):
        if name in fixed or name.startswith(".") or name == "build" or name.startswith("build-"):
            continue
        yield name, 1, "is not among the fixed top-level names"


def words(root):
    # spelled in pieces, or this file would break its own rule
    forbidden = re.compile("/wo" r"rk/|nvidia-h[0-9]{3}|\." "library/")
    top = [n for n in sorted(os.listdir(root)) if n != ".git" and os.path.isfile(os.path.join(root, n))] + [".ci/run"]
    listed = files(root, FOLDERS, CODE + SCRIPTS + (".md", ".json", ".theme", ".keys", ".screen", ".yaml", ".dict"))
    for path in [*top, *listed]:
        if not os.path.exists(os.path.join(root, path)):
            continue
        for number, line in enumerate(read(root, path).splitlines(), 1):
            m = forbidden.search(line)
            if m:
                yield path, number, f"names a place outside the project ({m.group()})"


def without_comments(text):
    keep = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|' r"'(?:\\.|[^'\\\n])*'", re.S)
    return keep.sub(lambda m: re.sub(r"[^\n]", " ", m.group()), text)


def silent_core(root):
    call = re.compile(r"(?<![\w.>])(v?printf|puts|putchar|perror|abort|_?exit|quick_exit|system)\s*\(|\b(stdout|stderr)\b")
    may_end = {"core/base/mem.c": {"_exit"}}
    for path in files(root, ("core",), CODE):
        for number, line in enumerate(without_comments(read(root, path)).splitlines(), 1):
            for m in call.finditer(line):
                word = m.group(1) or m.group(2)
                if word not in may_end.get(path, ()):
                    yield path, number, f"{word}: core neither prints nor ends the program"


RULES = {f.__name__: f for f in (includes, sizes, spdx, top_level, words, silent_core)}


def main():
    if len(sys.argv) < 2 or sys.argv[1] not in RULES:
        sys.exit("usage: check.py " + "|".join(RULES) + " [ROOT]")
    root = sys.argv[2] if len(sys.argv) > 2 else "."
    broken = 0
    for path, line, sentence in RULES[sys.argv[1]](root):
        print(f"{path}:{line}: {sentence}")
        broken += 1
    sys.exit(1 if broken else 0)


main()
