#!/usr/bin/env bash
# Surprise: a Llama of transformers 5.24 in float64 computes the softmax of eager attention in float32. Its attention
# matrix has dtype float64. Seen: every weight in it is a float32 number, and rows of up to 25 of them miss 1 by up to
# 1.2e-7, where a softmax of torch in float64 misses it by 2.2e-16.
# What follows: .double() buys no more than seven digits here. A finite difference needs a step for float32, and a sum
# of weights no tolerance below 1e-6.
# Run: bash findings/softmax_of_a_float64_network.sh     (exit 0 where the surprise is there)
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "torch==2.13.0" "transformers==5.24.0" "numpy==2.4.6"
HF_HUB_OFFLINE=1 TRANSFORMERS_VERBOSITY=error "$folder/venv/bin/python" - <<'PY'
import torch
import transformers
from transformers import LlamaConfig, LlamaModel

torch.manual_seed(0)
model = LlamaModel(LlamaConfig(
    vocab_size=40, hidden_size=16, num_hidden_layers=1, num_attention_heads=4, intermediate_size=24)).double().eval()
model.set_attn_implementation("eager")
with torch.no_grad():
    a = model(torch.arange(5, 30)[None], output_attentions=True).attentions[0]
torch_own = a.log().softmax(-1)  # the same rows by a softmax of torch in float64
missing, expected = (float((rows.sum(-1) - 1).abs().max()) for rows in (a, torch_own))
single = torch.equal(a, a.float().double())
print(f"transformers {transformers.__version__}: dtype {a.dtype}; every weight is a float32 number: {single}; "
      f"a row misses 1 by {missing:.1e}; softmax of torch in float64: {expected:.1e}")
if not (a.dtype == torch.float64 and single and missing > 1e-9 > expected):
    raise SystemExit('the surprise is gone')  # exit status 1
PY
