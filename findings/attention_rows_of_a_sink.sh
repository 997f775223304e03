#!/usr/bin/env bash
# Surprise: the rows of attention that transformers 5.24 returns for gpt_oss do not sum to 1. The softmax runs over the
# keys and a learned sink, and the column of the sink is cut off. Seen with flat scores and the sinks at 0: the rows of
# four tokens sum to 0.5, 0.6667, 0.75 and 0.8.
# What follows: entropy, rollout and any share of attention need the rest, 1 - the sum, as a key of its own.
# Run: bash findings/attention_rows_of_a_sink.sh     (exit 0 where the surprise is there)
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "torch==2.13.0" "transformers==5.24.0" "numpy==2.4.6"
HF_HUB_OFFLINE=1 TRANSFORMERS_VERBOSITY=error "$folder/venv/bin/python" - <<'PY'
import torch
import transformers
from transformers import GptOssConfig, GptOssModel

torch.manual_seed(0)
model = GptOssModel(GptOssConfig(
    vocab_size=40, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=2, head_dim=16,
    intermediate_size=32, num_local_experts=2, num_experts_per_tok=1, layer_types=["full_attention"]))
model.set_attn_implementation("eager")
attention = model.layers[0].self_attn
with torch.no_grad():
    for weight in (attention.sinks, *attention.q_proj.parameters()):
        weight.zero_()  # all scores are 0, the sink's too
    sums = model.eval()(torch.tensor([[7, 8, 9, 10]]), output_attentions=True).attentions[0][0, 0].sum(-1)
expected = torch.tensor([1 / 2, 2 / 3, 3 / 4, 4 / 5])
print(f"transformers {transformers.__version__}: rows of gpt_oss sum to {[round(float(s), 4) for s in sums]}")
if not torch.allclose(sums, expected, atol=1e-5):
    raise SystemExit('the surprise is gone')  # exit status 1
PY
