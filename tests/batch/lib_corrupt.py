#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The proof must notice: a table of damages done to finished exports, each of which has to end in exit code 5 (mismatch) or 3 (not even readable), with the
untouched export proving before and after."""
import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

source, binary = Path(os.environ["BL_SOURCE_DIR"]), os.environ["BL_BIN"]
model = source / "tests/models/tiny-exaone4"
work = Path(tempfile.mkdtemp())
problems = 0


def run(*args):
    env = {**os.environ, "HOME": str(work), "LC_ALL": "C.UTF-8"}
    return subprocess.run([binary, *map(str, args)], env=env, stdin=subprocess.DEVNULL, capture_output=True, cwd=work, timeout=300)


class Weights:
    """model.safetensors as a dictionary of (dtype, shape, bytes), written back in file order"""

    def __init__(self, folder):
        self.path = folder / "model.safetensors"
        raw = self.path.read_bytes()
        size = struct.unpack("<Q", raw[:8])[0]
        header = json.loads(raw[8:8 + size])
        header.pop("__metadata__")
        at = sorted(header.items(), key=lambda item: item[1]["data_offsets"])
        self.t = {n: [e["dtype"], e["shape"], bytearray(raw[8 + size + e["data_offsets"][0]:8 + size + e["data_offsets"][1]])] for n, e in at}

    def save(self):
        header, at = {"__metadata__": {"format": "pt"}}, 0
        for name, (dtype, shape, data) in self.t.items():
            header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + len(data)]}
            at += len(data)
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        self.path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(bytes(d) for _, _, d in self.t.values()))


def weights(change):
    def damage(folder):
        w = Weights(folder)
        change(w.t)
        w.save()
    return damage


def config(change):
    def damage(folder):
        c = json.loads((folder / "config.json").read_text())
        change(c)
        (folder / "config.json").write_text(json.dumps(c))
    return damage


def put(name, at, data):
    def change(t):
        t[name][2][at:at + len(data)] = data
    return change


D = "model.layers.3.mlp.down_proj"
Q = "model.layers.2.self_attn.q_proj"


def rename(t):
    t[D + ".weight_scales"] = t.pop(D + ".weight_scale")


def swap_parts(t):
    t[Q + ".weight"], t["model.layers.2.self_attn.o_proj.weight"] = t["model.layers.2.self_attn.o_proj.weight"], t[Q + ".weight"]


def group(c):
    return c["quantization_config"]["config_groups"]["group_0"]


def tie(t):
    t["lm_head.weight"] = ["BF16", [4096, 256], bytearray(t["model.embed_tokens.weight"][2][:-2] + b"\x11\x11")]


def rope5(c):
    c["rope_parameters"] = {**c.pop("rope_scaling"), "rope_theta": c.pop("rope_theta")}


cases = [  # scheme, what, damage
    ("W8A8", "a scale is missing", weights(lambda t: t.pop(D + ".weight_scale"))),
    ("W8A8", "codes are missing", weights(lambda t: t.pop(D + ".weight"))),
    ("W8A8", "a norm is missing", weights(lambda t: t.pop("model.norm.weight"))),
    ("W8A8", "a tensor has another name", weights(rename)),
    ("W8A8", "a tensor too many", weights(lambda t: t.update({D + ".weight_zero_point": ["I8", [256, 1], bytearray(256)]}))),
    ("W8A8", "a tensor from nowhere", weights(lambda t: t.update({"model.extra": ["F32", [1], bytearray(4)]}))),
    ("W8A8", "codes of another type", weights(lambda t: t[D + ".weight"].__setitem__(0, "U8"))),
    ("W8A8", "FP8 bytes under int8", weights(lambda t: t[D + ".weight"].__setitem__(0, "F8_E4M3"))),
    ("W8A8", "a scale without its second dimension", weights(lambda t: t[D + ".weight_scale"].__setitem__(1, [256]))),
    ("W8A8", "codes transposed", weights(lambda t: t[D + ".weight"].__setitem__(1, [512, 256]))),
    ("W8A8", "a zero scale", weights(put(D + ".weight_scale", 34, b"\0\0"))),
    ("W8A8", "a NaN scale", weights(put(D + ".weight_scale", 34, b"\xc0\x7f"))),
    ("W8A8", "an infinite scale", weights(put(D + ".weight_scale", 34, b"\x80\x7f"))),
    ("W8A8", "codes that are all zero", weights(lambda t: t[D + ".weight"].__setitem__(2, bytearray(len(t[D + ".weight"][2]))))),
    ("W8A8", "codes of another layer", weights(swap_parts)),
    ("W8A8", "signs lost", weights(lambda t: t[D + ".weight"].__setitem__(2, bytearray(b ^ 0x80 for b in t[D + ".weight"][2])))),
    ("W8A8", "NaN in a norm", weights(put("model.norm.weight", 10, b"\xc0\x7f"))),
    ("W8A8", "tied, stored and different", weights(tie)),
    ("W8A8", "cut short", lambda f: os.truncate(f / "model.safetensors", 6000000)),
    ("W8A8", "bytes behind the end", lambda f: (f / "model.safetensors").open("ab").write(b"x") and None),
    ("W8A8", "a stale weight file", lambda f: shutil.copy(f / "model.safetensors", f / "model-00001-of-00002.safetensors")),
    ("W8A8", "an index that names nothing", lambda f: (f / "model.safetensors.index.json").write_text('{"weight_map": {"a": "gone.safetensors"}}')),
    ("W8A8", "an index that leads outside", lambda f: (f / "model.safetensors.index.json").write_text('{"weight_map": {"a": "../m.safetensors"}}')),
    ("W8A8", "no config", lambda f: os.unlink(f / "config.json")),
    ("W8A8", "no status", config(lambda c: c["quantization_config"].pop("quantization_status"))),
    ("W8A8", "no format", config(lambda c: (c["quantization_config"].pop("format"), group(c).pop("format")))),
    ("W8A8", "no quantization_config", config(lambda c: c.pop("quantization_config"))),
    ("W8A8", "no layer_types", config(lambda c: c.pop("layer_types"))),
    ("W8A8", "another architecture", config(lambda c: c.update(architectures=["LlamaForCausalLM"]))),
    ("W8A8", "the newer spelling", config(rope5)),
    ("W8A8", "one part ignored", config(lambda c: c["quantization_config"]["ignore"].append(Q))),
    ("W8A8", "nobody targeted", config(lambda c: group(c).update(targets=["re:nothing"]))),
    ("W8A8", "only q targeted", config(lambda c: group(c).update(targets=[Q]))),
    ("W8A8", "float under integers", config(lambda c: group(c)["weights"].update(type="float"))),
    ("W8A8", "asymmetric int8", config(lambda c: group(c)["weights"].update(symmetric=False))),
    ("W4A16", "another group size", config(lambda c: group(c)["weights"].update(group_size=64))),
    ("W4A16", "no shape", weights(lambda t: t.pop(D + ".weight_shape"))),
    ("W4A16", "codes shifted by eight", weights(lambda t: t[D + ".weight_packed"].__setitem__(2, bytearray(b ^ 0x88 for b in t[D + ".weight_packed"][2])))),
    ("W4A16", "three bits promised", config(lambda c: group(c)["weights"].update(num_bits=3))),
    ("W4A16_ASYM", "zero points lost", weights(lambda t: t.pop(D + ".weight_zero_point"))),
    ("W4A16_ASYM", "zero points all zero", weights(lambda t: [t[n].__setitem__(2, bytearray(len(t[n][2]))) for n in t if n.endswith("zero_point")])),
    ("FP8_DYNAMIC", "a NaN code", weights(put(D + ".weight", 5, b"\x7f"))),
    ("FP8_DYNAMIC", "int8 bytes under FP8", weights(lambda t: t[D + ".weight"].__setitem__(0, "I8"))),
]

exports = {}
for scheme in sorted({c[0] for c in cases}):
    exports[scheme] = work / scheme
    assert run("export", model, "--preset", scheme, "-o", exports[scheme], "-q").returncode == 0, scheme
    assert run("verify", exports[scheme], "--base", model).returncode == 0, scheme
for scheme, what, damage in cases:
    folder = work / "damaged"
    shutil.copytree(exports[scheme], folder)
    damage(folder)
    for base in ([], ["--base", model]):
        r = run("verify", folder, *base)
        needs_base = what in ("codes of another layer", "signs lost", "codes shifted by eight", "zero points all zero")
        if r.returncode not in (3, 5) and (base or not needs_base):
            problems += 1
            print(f"FAIL  {scheme}, {what}{' with base' if base else ''}: exit {r.returncode}: {r.stdout[-300:]!r} {r.stderr[-200:]!r}")
            break
    shutil.rmtree(folder)
print(f"ok    {len(cases)} damages to folders")

# ---- packages ----


def package(change):
    path = work / "p.zip"
    with zipfile.ZipFile(path, "w") as z:
        for p in sorted(exports["W8A8"].iterdir()):
            z.write(p, "model/" + p.name)
        change(z)
    return path


def link(z):
    info = zipfile.ZipInfo("model/link")
    info.create_system, info.external_attr = 3, 0o120777 << 16
    z.writestr(info, "/etc/passwd")


def flip(path, needle):
    raw = bytearray(path.read_bytes())
    at = raw.index(needle)
    raw[at + 2000] ^= 1
    path.write_bytes(raw)


for what, change in [("leads outside", lambda z: z.writestr("../evil", "x")), ("absolute", lambda z: z.writestr("/evil", "x")), ("a link", link),
                     ("two top folders", lambda z: z.writestr("other/a", "x")), ("a folder inside", lambda z: z.writestr("model/sub/a", "x")),
                     ("at the root", lambda z: z.writestr("config.json", "{}")), ("a backslash", lambda z: z.writestr("model/..\\evil", "x")),
                     ("a stale weight file", lambda z: z.writestr("model/consolidated.safetensors", "x")),
                     ("a bomb", lambda z: z.writestr("model/zeros", b"\0" * 300_000_000, zipfile.ZIP_DEFLATED))]:
    path = package(change)
    r = run("verify", path)
    if r.returncode not in (3, 5) and what != "a bomb" or r.returncode < 0:
        problems += 1
        print(f"FAIL  zip, {what}: exit {r.returncode} {r.stderr[-200:]!r}")
path = package(lambda z: None)
if run("verify", path, "--base", model).returncode:
    problems += 1
    print("FAIL  a package made by others does not prove")
flip(path, b"model/model.safetensors")
if run("verify", path).returncode not in (3, 5):
    problems += 1
    print("FAIL  a flipped bit was not noticed")
print("ok    packages")
shutil.rmtree(work)
print(f"{problems} problems")
sys.exit(bool(problems))
