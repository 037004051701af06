#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Ids as the `tokenizers` library gives them (pip install tokenizers).
  tokenizer_cases.py write          makes tests/unit/text/cases.json anew: the tokenizer of tests/models/tiny-exaone4 with parts replaced, texts, ids
  tokenizer_cases.py compare BIN    the same variants on many more texts (random ones, broken UTF-8, every file of this tree) through `BIN tokenize`, and the
                                    speed of both on one core over the same rows"""
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ["TOKENIZERS_PARALLELISM"] = "false"
from tokenizers import Tokenizer  # noqa: E402

top = Path(__file__).resolve().parents[2]
BASE = json.loads((top / "tests/models/tiny-exaone4/tokenizer.json").read_text())
TAIL = r"\s*[\r\n]+|\s+(?!\S)|\s+"
WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+"
PUNCT = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|"


def byte_level(regex=False, prefix=False):
    return {"type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": True, "use_regex": regex}


def split(pattern, behavior="Isolated", invert=False):
    return {"type": "Split", "pattern": pattern if isinstance(pattern, dict) else {"Regex": pattern}, "behavior": behavior, "invert": invert}


def steps(*parts):
    return {"type": "Sequence", "pretokenizers": [*parts, byte_level()]}


def added(content, **flags):
    return {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": False, **flags, "content": content}


ADDED = [added("<mask>", lstrip=True, special=True), added("<r>", rstrip=True), added("word", single_word=True, normalized=True), added("caf\u00e9", normalized=True), added("  "),
         added("<both>", lstrip=True, rstrip=True, single_word=True, normalized=True), added("\n\n\n"), added("<m", normalized=True), added("the", special=True)]
TEMPLATE = {"type": "Sequence", "processors": [byte_level(), {"type": "TemplateProcessing", "single": [
    {"SpecialToken": {"id": "[BOS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "[EOS]", "type_id": 0}}],
    "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
    "special_tokens": {"[BOS]": {"id": "[BOS]", "ids": [1], "tokens": ["[BOS]"]}, "[EOS]": {"id": "[EOS]", "ids": [2], "tokens": ["[EOS]"]}}}]}
# what is replaced; "added": behind the tokens that are there, "model": options of it, "special": encode with the post-processor
VARIANTS = {
    "as it is": {},
    "llama3": {"normalizer": None, "pre_tokenizer": steps(split(WORDS + r"|\p{N}{1,3}" + PUNCT + TAIL)), "model": {"ignore_merges": True}, "added": ADDED},
    "qwen2": {"pre_tokenizer": steps(split(WORDS + r"|\p{N}" + PUNCT + TAIL)), "added": ADDED, "post_processor": TEMPLATE, "special": True},
    "possessive": {"normalizer": {"type": "NFKC"}, "pre_tokenizer": steps(split(r"[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*|" + TAIL, "Removed", True))},
    "han": {"normalizer": {"type": "NFD"}, "pre_tokenizer": steps(split(r"[\p{Han}]+|[\p{L}\p{M}]+|\p{Nd}|\s+", "Contiguous")), "added": ADDED},
    "digits": {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True}, byte_level(True, True)]}, "added": ADDED},
    "previous": {"normalizer": {"type": "NFKD"}, "pre_tokenizer": steps(split(r"\s+|\d", "MergedWithPrevious"), split(r"\w+[.,]", "MergedWithPrevious", True))},
    "next": {"normalizer": {"type": "Sequence", "normalizers": [{"type": "NFC"}]}, "pre_tokenizer": steps(split(r"\s|\w\W", "MergedWithNext"), split(r"[.,]", "MergedWithNext", True))},
    "empty": {"pre_tokenizer": steps(split({"String": "-."}, "Removed"), split(r"x*|^ +|.$|\S(?=\n)"))},
}
TEXTS = ["Hello, world! It's 2026-11-22; we'LL pay $1,234.56.", "안녕하세요. 12시 땡! 하루가 또 가네요.", "  leading\n\n\tand\ttabs\r\nCRLF line  \n\n\n\n end  ",
         "naïve café cafe\u0301 — “quotes” … n\u0303 \u1112\u1161\u11ab \u212b \u0344e\u0323\u0301", "👩\u200d👩\u200d👧 漢字かなカ\u3099 x-.y-.-.z", "<mask> a <mask>b<r>  c \n<r>word sword word.<both> <both>x",
         "[|user|]\nhi[|endofturn|]\n<think>\n\n</think>\n\nthe other", "\x01\x1b\x7f\u0085\u180e\u2028\u3000\ufeff½²Ⅳ٠①", "int main(void)\n{\n\treturn a[i] != 0 && b ? 1 : -2; /* xx */\n}\n", "a" * 300 + " " * 40 + "가" * 50]


def make(variant):
    whole = json.loads(json.dumps(BASE))
    for key in ("normalizer", "pre_tokenizer", "post_processor"):
        if key in variant:
            whole[key] = variant[key]
    whole["model"].update(variant.get("model", {}))
    next_id = len(whole["model"]["vocab"])
    for token in variant.get("added", []):
        known = whole["model"]["vocab"].get(token["content"])
        whole["added_tokens"].append({"id": next_id if known is None else known, **token})
        next_id += known is None
    return json.dumps(whole, ensure_ascii=False)


def write():
    out = []
    for name, variant in VARIANTS.items():
        tokenizer = Tokenizer.from_str(make(variant))
        rows = [{"text": t, "ids": tokenizer.encode(t, add_special_tokens=variant.get("special", False)).ids} for t in TEXTS]
        changed = {k: v for k, v in json.loads(make(variant)).items() if k in variant or (k == "added_tokens" and "added" in variant)}
        if "model" in variant:
            changed["model"] = variant["model"]
        out.append({"name": name, "special": variant.get("special", False), "changed": changed, "rows": rows})
    lines = ",\n".join(json.dumps(v) for v in out)
    (top / "tests/unit/text/cases.json").write_text('{"cases": [\n' + lines + "\n]}\n")


def random_text(rng):
    pools = ["abcdefghij", "ABC XYZ", "0123456789", "'\"!?.,;:-_()[]{}<>|/\\@#$%", " \t\n\r\x0b\x85\u00a0\u2003\u2028\u3000", "가나다라\u1100\u1161\u11a8", "漢字かな\u3099", "éñ\u0301\u0323\u212b", "👩\u200d🏽🇰", "'s't've'LL",
             "\u0660ⅣÑ②½", "\x01\x1b"]
    tokens = [t["content"] for t in ADDED] + ["[BOS]", "[|user|]", "cafe\u0301"]
    pick = lambda: rng.choice(tokens) if rng.random() < .12 else "".join(rng.choice(rng.choice(pools)) for _ in range(rng.randint(1, 6)))
    return "".join(pick() for _ in range(rng.randint(1, 60)))


def ours(binary, folder, names):
    options = [o for n in names for o in ("--text", n)]
    run = subprocess.run([binary, "tokenize", folder, "--json", *options], capture_output=True, text=True)
    if run.returncode:
        sys.exit(f"{folder}: {run.stderr}")
    return [row["ids"] for row in json.loads(run.stdout)["rows"]]


def compare(binary):
    rng = random.Random(int(os.environ.get("BL_SEED", "1")))
    bad = 0
    source = [p.read_text(errors="replace") for p in sorted(top.glob("core/**/*.[ch]"))]
    with tempfile.TemporaryDirectory() as folder:
        for name, variant in VARIANTS.items():
            Path(folder, "tokenizer.json").write_text(make(variant))
            tokenizer = Tokenizer.from_file(folder + "/tokenizer.json")
            texts = TEXTS + source + [random_text(rng) for _ in range(3000)]
            texts.append("".join(random_text(rng) for _ in range(2000)))
            Path(folder, "rows.jsonl").write_text("".join(json.dumps({"text": t}) + "\n" for t in texts))
            broken = [bytes(rng.choice([rng.randrange(256), 0x61, 0x20, 0xed, 0xf0, 0xe0]) for _ in range(rng.randint(1, 200))) for _ in range(200)]
            for i, raw in enumerate(broken):
                Path(folder, f"{i}.txt").write_bytes(raw)
            got = ours(binary, folder, [folder + "/rows.jsonl"] + [f"{folder}/{i}.txt" for i in range(len(broken))])
            want = [tokenizer.encode(t, add_special_tokens=False).ids for t in texts + [b.decode("utf-8", "replace") for b in broken]]
            want = [w for w in want if w]  # rows without tokens are dropped
            wrong = sum(g != w for g, w in zip(got, want)) + abs(len(got) - len(want))
            bad += wrong
            print(f"{'ok   ' if not wrong else 'FAIL '} {name}: {len(want)} texts, {sum(map(len, want))} ids, {wrong} wrong")
        Path(folder, "tokenizer.json").write_text(make({}))
        tokenizer = Tokenizer.from_file(folder + "/tokenizer.json")
        rows = [t[i:i + 4096] for t in source for i in range(0, len(t), 4096)] + [random_text(rng) for _ in range(500)]
        Path(folder, "rows.jsonl").write_text("".join(json.dumps({"text": t}) + "\n" for t in rows))
        size, times = sum(len(t.encode()) for t in rows), []
        for _ in range(3):
            start = time.perf_counter()
            for t in rows:
                tokenizer.encode(t, add_special_tokens=False)
            times.append(time.perf_counter() - start)
        run = subprocess.run([binary, "bench", "tokenizer", "--model", str(top / "tests/models/tiny-exaone4"), "--text", folder + "/rows.jsonl", "--json"], capture_output=True, text=True)
        mine, theirs = json.loads(run.stdout)["rows"][0]["seconds"], sorted(times)[1]
        print(f"speed on one core, {size / 1e6:.2f} MB: {size / mine / 1e6:.2f} MB/s, tokenizers {size / theirs / 1e6:.2f} MB/s, {theirs / mine:.1f} times as fast")
        bad += mine > theirs
    sys.exit(bad > 0)


if sys.argv[1:] == ["write"]:
    write()
elif len(sys.argv) == 3 and sys.argv[1] == "compare":
    compare(sys.argv[2])
else:
    sys.exit(__doc__)
