#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Byte for byte: what compressed-tensors makes of every linear of BASE in MXFP8, beside the same linears of EXPORT, made by plain rounding; then EXPORT in its client,
whose logits must be those of expect.py. Usage: mxfp8.py EXPORT BASE EXPECT.safetensors"""
import sys
from pathlib import Path

import torch
from compressed_tensors.compressors.mxfp8.base import MXFP8QuantizationCompressor
from compressed_tensors.quantization.quant_scheme import preset_name_to_scheme
from compressed_tensors.quantization.utils import calculate_qparams
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

export, base = ({k: v for part in sorted(Path(folder).glob("*.safetensors")) for k, v in load_file(part).items()} for folder in sys.argv[1:3])
scheme = preset_name_to_scheme("MXFP8A16", ["Linear"])
seen = differ = 0
for name, exponents in export.items():
    if not name.endswith(".weight_scale"):
        continue
    module = name.removesuffix("_scale")
    weight = base[module]
    groups = weight.reshape(weight.shape[0], -1, 32)
    scale, zero = calculate_qparams(groups.amin(-1), groups.amax(-1), scheme.weights)
    made = MXFP8QuantizationCompressor.compress({"weight": weight, "weight_scale": scale.to(weight.dtype), "weight_zero_point": zero}, scheme)
    for want, got in ((made["weight_scale"], exponents), (made["weight"], export[module])):
        differ += int((want.view(torch.uint8) != got.view(torch.uint8)).sum())
    seen += 1
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.bfloat16).eval()
expect = load_file(sys.argv[3])
with torch.no_grad():
    logits = model(input_ids=expect["input_ids"].long(), use_cache=False).logits[:, -expect["logits"].shape[1]:].float()
relative = ((logits - expect["logits"]).norm() / expect["logits"].norm()).item()
print(f"{seen} linears, {differ} bytes differ; in its client relative {relative:.3g}")
sys.exit(seen == 0 or differ > 0 or not relative < 0.03)
