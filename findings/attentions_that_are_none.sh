#!/usr/bin/env bash
# Surprise: `attentions` of transformers 5.24.0 (torch 2.13.0, CPU) need be no attention, and its index no layer.
# Seen with four layers and six tokens: MiniMax's two linear layers give a state (1, 4, 16, 16), head_dim by head_dim,
# with entries down to -0.06; RWKV gives outputs (1, 6, 64), tokens by features, down to -1.36; SqueezeBERT gives
# scores (1, 4, 6, 6) down to -0.02, that no softmax has seen; LFM2 gives two entries for four layers, since it leaves
# its convolutions out, so that attentions[1] belongs to layer 3 (counted from 0).
# What follows: check shape, sign and row sums before reading a map, and take it from the module to know its layer.
# Run: bash findings/attentions_that_are_none.sh     (exit 0 where the surprise is there)
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "torch==2.13.0" "transformers==5.24.0" "numpy==2.4.6"
HF_HUB_OFFLINE=1 TRANSFORMERS_VERBOSITY=error "$folder/venv/bin/python" - <<'PY'
import torch
import transformers
from transformers import (
    Lfm2Config, Lfm2Model, MiniMaxConfig, MiniMaxModel, RwkvConfig, RwkvModel, SqueezeBertConfig, SqueezeBertModel
)

torch.manual_seed(0)
text = torch.tensor([[7, 8, 9, 10, 11, 12]])
some = dict(vocab_size=40, hidden_size=64, num_hidden_layers=4)
heads = dict(num_attention_heads=4, intermediate_size=32)
lfm2 = Lfm2Model(Lfm2Config(**some, **heads, num_key_value_heads=2, layer_types=["conv", "full_attention"] * 2))
minimax = MiniMaxModel(MiniMaxConfig(
    **some, **heads, num_key_value_heads=2, head_dim=16, num_local_experts=2, num_experts_per_tok=1,
    layer_types=["full_attention", "linear_attention"] * 2, bos_token_id=1, eos_token_id=2))
squeezebert = SqueezeBertModel(SqueezeBertConfig(**some, **heads, embedding_size=64, pad_token_id=0))
rwkv = RwkvModel(RwkvConfig(**some, attention_hidden_size=64, bos_token_id=1, eos_token_id=2))
given = {}
for model in (lfm2, minimax, rwkv, squeezebert):
    model.set_attn_implementation("eager") if model is lfm2 or model is minimax else None
    with torch.no_grad():
        given[type(model).__name__] = [a for a in model.eval()(text, output_attentions=True).attentions]
print(f"transformers {transformers.__version__}, 4 layers and 6 tokens each:")
for name, maps in given.items():
    told = ", ".join(f"{tuple(a.shape)} from {float(a.min()):.2f}" for a in maps)
    print(f"  {name}: {len(maps)} entries: {told}")
hold = {
    "lfm2 leaves layers out": len(given["Lfm2Model"]) == 2,
    "a state": given["MiniMaxModel"][1].shape[-2:] == (16, 16) and float(given["MiniMaxModel"][1].min()) < 0,
    "outputs": given["RwkvModel"][0].shape == (1, 6, 64),
    "scores": float(given["SqueezeBertModel"][0].min()) < 0,
}
if not all(hold.values()):
    raise SystemExit(f'the surprise is gone: {hold}')  # exit status 1
PY
