#!/usr/bin/env bash
# Surprise: a network whose MLP was replaced by Identity saves and loads without an error in transformers 5.24, and the
# MLP is back with random weights, others at every load. Seen: the logits of two loads of one directory differ, and
# three weights stand in missing_keys. A line of the log tells it, and nothing else does.
# What follows: save what was removed as zeros, or under a model type of its own; ask from_pretrained for
# output_loading_info=True and refuse missing_keys.
# Run: bash findings/replaced_sublayer_comes_back_random.sh     (exit 0 where the surprise is there)
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "torch==2.13.0" "transformers==5.24.0" "numpy==2.4.6"
HF_HUB_OFFLINE=1 TRANSFORMERS_VERBOSITY=error "$folder/venv/bin/python" - "$folder/model" <<'PY'
import sys
import torch
import transformers
from transformers import LlamaConfig, LlamaForCausalLM

torch.manual_seed(0)
model = LlamaForCausalLM(LlamaConfig(
    vocab_size=40, hidden_size=16, num_hidden_layers=2, num_attention_heads=4, intermediate_size=24)).eval()
model.model.layers[1].mlp = torch.nn.Identity()
model.save_pretrained(sys.argv[1])
text = torch.tensor([[5, 6, 7, 8]])
first, info = LlamaForCausalLM.from_pretrained(sys.argv[1], output_loading_info=True)
second = LlamaForCausalLM.from_pretrained(sys.argv[1])
missing = sorted(info["missing_keys"])
with torch.no_grad():
    saved, one, two = (network.eval()(text).logits for network in (model, first, second))
far, apart = float((saved - one).abs().max()), float((one - two).abs().max())
print(f"transformers {transformers.__version__}: largest logit {float(saved.abs().max()):.3f}; "
      f"saved against loaded {far:.4f}, loaded twice {apart:.4f}; missing_keys: {missing}")
if not (far > 0 and apart > 0 and len(missing) == 3):
    raise SystemExit('the surprise is gone')  # exit status 1
PY
