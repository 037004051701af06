#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Independent reading of an export: decodes every quantized linear with a few lines of numpy-like torch, puts the result into the plain model, emulates the client's
dynamic activation rounding by hooks, and saves input_ids and logits for check_export.py --expect. Usage: expect.py EXPORT BASE OUT.safetensors [bfloat16]"""
import json
import re
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

export, base, out = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
dtype = getattr(torch, sys.argv[4] if len(sys.argv) > 4 else "float32")
config = json.loads((export / "config.json").read_text())["quantization_config"]
tensors = {}
for part in sorted(export.glob("*.safetensors")):
    tensors.update(load_file(part))


E2M1 = torch.tensor([0, .5, 1, 1.5, 2, 3, 4, 6, 0, -.5, -1, -1.5, -2, -3, -4, -6])


def group_of(name):
    """what the config says of a linear: for compressed-tensors its group, else the config itself; None: full precision"""
    if config["quant_method"] != "compressed-tensors":
        stored = [name + s for s in (".qweight", ".weight.absmax", ".SCB")]
        return config if any(s in tensors for s in stored) else None
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


def decode_gptq(name, awq):
    """transposed: qweight [K/per, N] (awq: [K, N/8], nibbles in an order of their own), zeros and scales per group"""
    bits, scales = config["bits"], tensors[name + ".scales"].float()
    if not awq:
        for pattern, change in (config.get("dynamic") or {}).items():
            if pattern.startswith("+:") and re.match(pattern[2:], name):
                bits = change.get("bits", bits)
    half, words, n = 1 << bits - 1, tensors[name + ".qweight"], scales.shape[1]
    if awq:
        order = torch.tensor([0, 4, 1, 5, 2, 6, 3, 7]) * 4
        nibbles = lambda w: (w.to(torch.int64).unsqueeze(-1) >> order & 15).reshape(w.shape[0], -1)
        codes, zeros = nibbles(words), nibbles(tensors[name + ".qzeros"])
    else:
        codes = (unpack(words.t(), words.shape[0] * 32 // bits, bits) + half).t()
        off = 0 if config.get("checkpoint_format") == "gptq_v2" else 1
        zeros = unpack(tensors[name + ".qzeros"], n, bits) + half + off
    k = codes.shape[0]
    index = tensors.get(name + ".g_idx")
    index = torch.arange(k) // (k // scales.shape[0]) if index is None else index.long()
    return ((codes - zeros[index]).float() * scales[index]).t().contiguous()


def decode_bnb(name, shape):
    if config["load_in_8bit"]:
        return tensors[name + ".weight"].float() * tensors[name + ".SCB"][:, None] * 7.874015718698502e-3
    raw, absmax = tensors[name + ".weight"].flatten().long(), tensors[name + ".weight.absmax"]
    codes = torch.stack((raw >> 4, raw & 15), 1).flatten()
    if name + ".weight.nested_absmax" in tensors:
        state = json.loads(bytes(tensors[name + ".weight.quant_state.bitsandbytes__nf4"].tolist()))
        nested = tensors[name + ".weight.nested_absmax"].repeat_interleave(256)[:absmax.numel()]
        absmax = tensors[name + ".weight.nested_quant_map"][absmax.long()] * nested + state["nested_offset"]
    return (tensors[name + ".weight.quant_map"][codes] * absmax.repeat_interleave(64)).reshape(shape)


def decode_fp4(name, group):
    raw = tensors[name + ".weight_packed"].long()
    values = E2M1[torch.stack((raw & 15, raw >> 4), -1).reshape(raw.shape[0], -1)]
    scale = tensors[name + ".weight_scale"]
    if group["format"] == "nvfp4-pack-quantized":
        scale = scale.float() / tensors[name + ".weight_global_scale"]
    else:
        scale = torch.exp2(scale.float() - 127)
    return values * scale.repeat_interleave(values.shape[1] // scale.shape[1], 1)


def decode(name, group, shape):
    if config["quant_method"] == "bitsandbytes":
        return decode_bnb(name, shape)
    if config["quant_method"] != "compressed-tensors":
        return decode_gptq(name, config["quant_method"] == "awq")
    if group["format"].endswith("fp4-pack-quantized"):
        return decode_fp4(name, group)
    w, scale = group["weights"], tensors[name + ".weight_scale"].float()
    if group["format"] == "mxfp8-quantized":
        scale = torch.exp2(scale - 127)
    if w["strategy"] == "block":
        codes = tensors[name + ".weight"].float()
        full = scale.repeat_interleave(128, 0)[:codes.shape[0]].repeat_interleave(128, 1)[:, :codes.shape[1]]
        return codes * full
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


def round_input(kind, width):
    def hook(module, args):
        x = args[0]
        if width:
            x = x.unflatten(-1, (-1, width))
            s = (x.abs().amax(-1, keepdim=True) / 448).clamp(min=torch.finfo(x.dtype).eps)
            return (((x / s).clamp(-448, 448).to(torch.float8_e4m3fn).to(x.dtype) * s).flatten(-2),)
        if kind == "int":
            s = (x.abs().amax(-1, keepdim=True) / 127.5).clamp(min=torch.finfo(x.dtype).eps)
            return ((x / s).clamp(-128, 127).round() * s,)
        s = (x.abs().amax(-1, keepdim=True) / 448).clamp(min=torch.finfo(x.dtype).eps)
        return ((x / s).clamp(-448, 448).to(torch.float8_e4m3fn).to(x.dtype) * s,)
    return hook


model = AutoModelForCausalLM.from_pretrained(base, dtype=dtype).eval()
seen = 0
for name, module in model.named_modules():
    group = group_of(name) if isinstance(module, torch.nn.Linear) else None
    if group is None:
        continue
    module.weight.data = decode(name, group, module.weight.shape).to(dtype)
    seen += 1
    if group.get("input_activations"):
        module.register_forward_pre_hook(round_input(group["input_activations"]["type"], group["input_activations"]["group_size"]))
torch.manual_seed(42)
ids = torch.randint(10, model.config.vocab_size - 10, (2, 64))
with torch.no_grad():
    logits = model(input_ids=ids, use_cache=False).logits[:, -16:].float()
save_file({"input_ids": ids.to(torch.int32), "logits": logits.contiguous()}, out)
print(f"{seen} linears decoded")
