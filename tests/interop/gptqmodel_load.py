#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Loads exports in GPTQModel with its torch back ends (CPU), which unpack and compute by themselves, and compares logits with those of an independent decoding.
Usage: gptqmodel_load.py TOLERANCE DIR:EXPECT.safetensors:BACKEND:DTYPE... (several share the seconds that the import takes). Prints one line each."""
import os
import sys

os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")  # compiling takes longer than what is computed here
import torch
from gptqmodel import BACKEND, GPTQModel
from gptqmodel.models import auto
from gptqmodel.models.base import BaseQModel
from safetensors.torch import load_file


class Exaone4(BaseQModel):
    """a family that this version does not list: where its linears are, for the loader"""
    pre_lm_head_norm_module = "model.norm"
    module_tree = ["model", "layers", "#", {"self_attn": ("q_proj:0", "k_proj:0", "v_proj:0", "o_proj:1"), "mlp": ("gate_proj:0", "up_proj:0", "down_proj:1")}]


auto.MODEL_MAP["exaone4"] = Exaone4
auto.SUPPORTED_MODELS.append("exaone4")
bad = 0
for case in sys.argv[2:]:
    folder, expect, backend, dtype = case.split(":")
    model = GPTQModel.load(folder, backend=getattr(BACKEND, backend), device="cpu", dtype=getattr(torch, dtype)).model
    want = load_file(expect)
    with torch.no_grad():
        got = model(input_ids=want["input_ids"].long(), use_cache=False).logits.float()
    want = want["logits"].float()
    relative = ((got[:, -want.shape[1]:] - want).norm() / want.norm()).item()
    kernels = sum(type(m).__name__.endswith("QuantLinear") for m in model.modules())
    ok = relative <= float(sys.argv[1]) and kernels > 0
    bad += not ok
    print(f"{'ok   ' if ok else 'FAIL '} {os.path.basename(folder)} in GPTQModel, {backend}: {kernels} quantized linears, relative {relative:.3g}", flush=True)
sys.exit(bad > 0)
