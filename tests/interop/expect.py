#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Independent reading of an export: decodes every quantized linear with a few lines of numpy-like torch, puts the result into the plain model, emulates the client's
dynamic activation rounding by hooks, and saves input_ids and logits for check_export.py --expect. Usage: expect.py EXPORT BASE OUT.safetensors"""
import json
import re
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

export, base, out = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
config = json.loads((export / "config.json").read_text())["quantization_config"]
tensors = {}
for part in sorted(export.glob("*.safetensors")):
    tensors.update(load_file(part))


def group_of(name):
    if name in config["ignore"]:
        return None
    for group in config["config_groups"].values():
        if name in group["targets"]:
            return group
    for group in config["config_groups"].values():
        if "Linear" in group["targets"]:
            return group
    return None


def unpack(words, n, bits):
    """[rows, words] int32 -> [rows, n] signed codes; dense little-endian bit string of each row"""
    raw = words.contiguous().view(torch.uint8).reshape(words.shape[0], -1).to(torch.int64)
    bit = torch.arange(n) * bits
    low, shift = bit // 8, bit % 8
    raw = torch.nn.functional.pad(raw, (0, 2))
    value = raw[:, low] | raw[:, low + 1] << 8
    return (value >> shift & (1 << bits) - 1) - (1 << bits - 1)


def decode(name, group):
    w, scale = group["weights"], tensors[name + ".weight_scale"].float()
    if group["format"] == "pack-quantized":
        rows, cols = tensors[name + ".weight_shape"].tolist()
        codes = unpack(tensors[name + ".weight_packed"], cols, w["num_bits"]).float()
        zero = torch.zeros_like(scale)
        if not w["symmetric"]:
            zero = unpack(tensors[name + ".weight_zero_point"].t(), rows, w["num_bits"]).t().float()
    else:
        codes, zero = tensors[name + ".weight"].float(), torch.zeros_like(scale)
        rows, cols = codes.shape
    per = cols // scale.shape[1]
    return (codes - zero.repeat_interleave(per, 1)) * scale.repeat_interleave(per, 1)


def round_input(kind):
    def hook(module, args):
        x = args[0]
        if kind == "int":
            s = (x.abs().amax(-1, keepdim=True) / 127.5).clamp(min=torch.finfo(x.dtype).eps)
            return ((x / s).clamp(-128, 127).round() * s,)
        s = (x.abs().amax(-1, keepdim=True) / 448).clamp(min=torch.finfo(x.dtype).eps)
        return ((x / s).clamp(-448, 448).to(torch.float8_e4m3fn).to(x.dtype) * s,)
    return hook


model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()
seen = 0
for name, module in model.named_modules():
    group = group_of(name) if isinstance(module, torch.nn.Linear) else None
    if group is None:
        continue
    module.weight.data = decode(name, group)
    seen += 1
    if group["input_activations"]:
        module.register_forward_pre_hook(round_input(group["input_activations"]["type"]))
torch.manual_seed(42)
ids = torch.randint(10, model.config.vocab_size - 10, (2, 64))
with torch.no_grad():
    logits = model(input_ids=ids, use_cache=False).logits[:, -16:].float()
save_file({"input_ids": ids.to(torch.int32), "logits": logits.contiguous()}, out)
print(f"{seen} linears decoded")
