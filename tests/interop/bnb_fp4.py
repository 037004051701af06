#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Byte for byte: what bitsandbytes makes of every linear of BASE in fp4, beside the same linears of EXPORT; then EXPORT in transformers, beside the decoded weights in BASE.
Usage: bnb_fp4.py EXPORT BASE"""
import json
import sys
from pathlib import Path

import torch
from bitsandbytes.functional import dequantize_4bit, quantize_4bit
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

export, base = ({k: v for part in sorted(Path(folder).glob("*.safetensors")) for k, v in load_file(part).items()} for folder in sys.argv[1:3])
plain = AutoModelForCausalLM.from_pretrained(sys.argv[2], dtype=torch.bfloat16).eval()
modules = dict(plain.named_modules())
seen = differ = 0
for name in [k.removesuffix(".quant_map") for k in export if k.endswith(".weight.quant_map")]:
    codes, state = quantize_4bit(base[name], quant_type="fp4", blocksize=64, compress_statistics=name + ".nested_absmax" in export)
    differ += int((codes.flatten() != export[name].flatten()).sum())
    for suffix, want in state.as_dict(packed=True).items():
        got = export[f"{name}.{suffix}"]
        if suffix.startswith("quant_state"):
            differ += json.loads(bytes(want.tolist())) != json.loads(bytes(got.tolist()))
        elif suffix == "nested_quant_map":  # differs in the last place between versions
            differ += not torch.allclose(want, got, atol=1e-6, rtol=0)
        else:
            differ += int((want.flatten() != got.flatten()).sum())
    modules[name.removesuffix(".weight")].weight.data = dequantize_4bit(codes, state)
    seen += 1
torch.manual_seed(42)
ids = torch.randint(10, plain.config.vocab_size - 10, (2, 64))
with torch.no_grad():
    want = plain(input_ids=ids, use_cache=False).logits.float()
    got = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.bfloat16).eval()(input_ids=ids, use_cache=False).logits.float()
relative = ((got - want).norm() / want.norm()).item()
print(f"{seen} linears, {differ} differences; in its client relative {relative:.3g}")
sys.exit(seen == 0 or differ > 0 or not relative < 0.03)
