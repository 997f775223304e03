#!/usr/bin/env bash
# Surprise: what scaled_dot_product_attention of torch 2.13.0 (CPU) gives for a token that may see no key depends on how
# "may not" is written. Seen: with False, or -inf, the row is exactly [0, 0, 0, 0]; with torch.finfo(dtype).min, as many
# models write masks, it is the mean of all values, [-0.0876, -0.6985, -0.7907, 0.5295]; the formula
# softmax(scores + mask) @ v with -inf gives [nan, nan, nan, nan].
# What follows: signals of padded rows are 0, a mean, or nan by the mask's style. Leave them out of every statistic.
# Run: bash findings/fully_masked_row_of_attention.sh     (exit 0 where the surprise is there)
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "torch==2.13.0" "numpy==2.4.6"
"$folder/venv/bin/python" - <<'PY'
import torch
from torch.nn.functional import scaled_dot_product_attention as sdpa

torch.manual_seed(0)
v = torch.randn(1, 1, 3, 4)
seen = torch.ones(1, 1, 3, 3, dtype=torch.bool)
seen[..., 0, :] = False  # the first token sees nothing
masks = {"False": seen} | {
    str(low): torch.zeros(1, 1, 3, 3).masked_fill(~seen, low) for low in (-torch.inf, torch.finfo(v.dtype).min)
}
rows = {name: sdpa(v, v, v, attn_mask=mask)[0, 0, 0] for name, mask in masks.items()}
formula = ((v @ v.mT / 2 + masks["-inf"]).softmax(-1) @ v)[0, 0, 0]
for name, row in {**rows, "softmax(scores + mask) @ v, -inf": formula}.items():
    print(f"torch {torch.__version__}: {name}: {row.tolist()}")
zero, infinite, least = rows.values()
if not (bool((zero == 0).all() and (infinite == 0).all()) and torch.allclose(least, v.mean(2)[0, 0])
        and bool(formula.isnan().all())):
    raise SystemExit('the surprise is gone')  # exit status 1
PY
