"""Structures against what is known of a few families: order of norms, scalings, kinds, and what cannot be traced."""

import json
import runpy
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from numpy.testing import assert_allclose  # noqa: E402  (after the skip)

from ctrlattn import checkpoints  # noqa: E402
from ctrlattn.errors import InputError  # noqa: E402

FEW = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4}
SIZES = {**FEW, "intermediate_size": 24}
TEXT = {"vocab_size": 40, "max_position_embeddings": 64, "pad_token_id": 0, **SIZES}
GROUPED = {**TEXT, "num_key_value_heads": 2, "head_dim": 4}
MAKERS = {
    "llama": lambda t: t.LlamaForCausalLM(t.LlamaConfig(**GROUPED)),
    "granite": lambda t: t.GraniteModel(t.GraniteConfig(**TEXT, residual_multiplier=0.22)),
    "olmo2": lambda t: t.Olmo2Model(t.Olmo2Config(**TEXT)),
    "gemma2": lambda t: t.Gemma2Model(t.Gemma2Config(**GROUPED, sliding_window=4)),
    "falcon": lambda t: t.FalconModel(t.FalconConfig(vocab_size=40, **FEW)),
    "bert": lambda t: t.BertModel(t.BertConfig(**TEXT)),
    "doge": lambda t: t.DogeModel(t.DogeConfig(**TEXT)),
    "dinov2": lambda t: t.Dinov2Model(t.Dinov2Config(image_size=8, patch_size=4, **FEW)),
    "albert": lambda t: t.AlbertModel(t.AlbertConfig(embedding_size=8, **TEXT)),
}  # fmt: skip
# (attention: path, dropped, norm), (mlp: ...), the norm behind each step
PATHS = {
    "llama": (("self_attn", "self_attn", "input_layernorm"), ("mlp", "mlp", "post_attention_layernorm"), ("", "")),
    "granite": (("self_attn", "self_attn", "input_layernorm"), ("mlp", "mlp", "post_attention_layernorm"), ("", "")),
    "olmo2": (("post_attention_layernorm", "self_attn", ""), ("post_feedforward_layernorm", "mlp", ""), ("", "")),
    "gemma2": (
        ("post_attention_layernorm", "self_attn", "input_layernorm"),
        ("post_feedforward_layernorm", "mlp", "pre_feedforward_layernorm"),
        ("", ""),
    ),
    "falcon": (("self_attention", "self_attention", "input_layernorm"), ("mlp", "mlp", "input_layernorm"), ("",)),
}


def made(name):
    torch.manual_seed(0)
    model = MAKERS[name](transformers).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model


@pytest.mark.parametrize("name", PATHS)
def test_the_paths_of_a_layer(name):
    structure = checkpoints.trace(made(name))
    attention, mlp, norms = PATHS[name]
    for call in structure.calls:
        assert [(t.kind, t.path, t.module, t.norm) for t in call.terms] == [("attention", *attention), ("mlp", *mlp)]
        assert tuple(step.norm for step in call.steps) == norms
        assert call.error < 1e-14
    assert structure.causal
    assert (structure.width, structure.streams, len(structure.layers)) == (16, 1, 2)


@pytest.mark.parametrize(("name", "factor"), [("llama", 1.0), ("granite", 0.22), ("olmo2", 1.0)])
def test_a_number_in_front_of_a_contribution(name, factor):
    for call in checkpoints.trace(made(name)).calls:
        assert [t.coefficient.form for t in call.terms] == ["number", "number"]
        assert_allclose([t.coefficient.value for t in call.terms], factor, rtol=1e-12)
        assert all(step.skip.is_one for step in call.steps)


def test_a_number_per_feature_in_front_of_the_stream_or_of_a_contribution():
    doge = made("doge")
    first, second = checkpoints.trace(doge).calls[0].steps
    assert_allclose(first.skip.value, doge.layers[0].input_residual.detach(), rtol=1e-12)
    assert_allclose(second.skip.value, doge.layers[0].post_attention_residual.detach(), rtol=1e-12)
    assert all(term.coefficient.is_one for term in (*first.terms, *second.terms))
    dino = made("dinov2")
    terms = checkpoints.trace(dino).calls[1].terms
    for term, scale in zip(terms, ("layer_scale1", "layer_scale2"), strict=True):
        assert_allclose(term.coefficient.value, getattr(dino.encoder.layer[1], scale).lambda1.detach(), rtol=1e-12)


def test_post_norm_ends_each_step_with_its_norm():
    structure = checkpoints.trace(made("bert"))
    assert not structure.causal
    for call in structure.calls:
        assert [step.norm for step in call.steps] == ["attention.output.LayerNorm", "output.LayerNorm"]
        assert [(t.kind, t.path, t.reads) for t in call.terms] == [
            ("attention", "attention.output.dense", 0),
            ("mlp", "output.dense", 1),
        ]
        assert call.terms[0].matrix == "attention.self"


def test_a_layer_that_is_called_at_every_depth():
    structure = checkpoints.trace(made("albert"))
    assert (len(structure.layers), len(structure.calls)) == (1, 2)
    assert [call.layer for call in structure.calls] == [0, 0]


def test_sdpa_is_switched_and_comes_back():
    model = made("llama")
    model.set_attn_implementation("sdpa")
    assert checkpoints.trace(model).calls[0].terms[0].kind == "attention"
    assert model.config._attn_implementation == "sdpa"


def test_no_hook_is_left():
    model = made("llama")
    checkpoints.trace(model)
    assert sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()) == 0


@pytest.mark.parametrize(
    ("name", "break_it", "word"),
    [
        ("llama", lambda model: model.train(), r"training mode.*model\.eval\(\)"),
        ("llama", lambda model: setattr(model.config, "is_encoder_decoder", True), "encoder-decoder"),
    ],
    ids=["training", "encoder-decoder"],
)
def test_what_cannot_be_traced(name, break_it, word):
    model = made(name)
    break_it(model)
    with pytest.raises(InputError, match=word):
        checkpoints.trace(model)


def test_inputs_that_the_model_does_not_run_on():
    with pytest.raises(InputError, match="does not run on the inputs nonsense"):
        checkpoints.trace(made("llama"), {"nonsense": torch.zeros(1)})
    with pytest.raises(InputError, match="no list of layers"):
        checkpoints.trace(torch.nn.Linear(2, 2).eval(), {"input": torch.zeros(1, 2)})
    with pytest.raises(InputError, match="a torch module"):
        checkpoints.trace("llama")


class Ahead(torch.nn.Module):
    """The sum of all tokens from this one on."""

    def forward(self, x):
        return x.cumsum(1).mul(-1) + x.sum(1, keepdim=True)


class Twice(torch.nn.Module):
    """A layer whose gate has as many experts as there are tokens: softmax (batch, n, n) without mixing tokens."""

    def __init__(self):
        super().__init__()
        self.gate, self.mix, self.experts = torch.nn.Linear(6, 8), Ahead(), torch.nn.Linear(8, 6)

    def forward(self, hidden_states):
        x = hidden_states + 0.5 * self.mix(self.gate.weight.mean() * hidden_states.tanh())
        return 0.25 * x - 2 * self.experts(torch.softmax(self.gate(x), -1))


class Stack(torch.nn.Module):
    main_input_name = "input_ids"

    def __init__(self, make):
        super().__init__()
        self.words, self.blocks = torch.nn.Embedding(9, 6), torch.nn.ModuleList([make(), make()])

    def forward(self, input_ids):
        x = self.words(input_ids)
        for block in self.blocks:
            x = block(x)
        return x


IDS = {"input_ids": torch.tensor([[1, 2, 3, 4, 5, 6, 7, 8]])}


def test_a_network_of_no_library_with_factors_and_a_gate():
    torch.manual_seed(0)
    structure = checkpoints.trace(Stack(Twice).double().eval(), IDS)
    first, second = structure.calls[1].steps
    assert (first.skip.value, first.terms[0].coefficient.value) == (1.0, 0.5)
    assert (second.skip.value, second.terms[0].coefficient.value) == (0.25, -2.0)
    assert structure.calls[1].kinds == ("mixer", "mlp")
    assert [term.reads for term in structure.calls[1].terms] == [0, 1]
    assert not structure.causal


class Plain(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.f = torch.nn.Linear(6, 6)

    def forward(self, x):
        return self.f(x)


class Silent(Plain):
    def forward(self, x):
        self.f(x)


class InPlace(Plain):
    def forward(self, x):
        y = self.f(x)
        y += x
        y *= 3
        return y


class Restarting(Stack):
    def forward(self, input_ids):
        x = self.words(input_ids)
        for block in self.blocks:
            x = block(x) * 1.5
        return x


def test_layers_that_are_not_residual_or_return_nothing_or_restart():
    with pytest.raises(InputError, match="not residual: its stream does not reach its output, f does"):
        checkpoints.trace(Stack(Plain).eval(), IDS)
    with pytest.raises(InputError, match="does not run on the inputs input_ids"):
        checkpoints.trace(Stack(Silent).eval(), IDS)
    with pytest.raises(InputError, match="do not hand a stream on"):
        checkpoints.trace(Restarting(InPlace).eval(), IDS)


def test_additions_in_place_are_followed():
    call = checkpoints.trace(Stack(InPlace).double().eval(), IDS).calls[0]
    assert_allclose([call.steps[0].skip.value, call.terms[0].coefficient.value], 3.0, rtol=1e-15)
    assert call.terms[0].kind == "mlp"
    assert call.error < 1e-15


def test_the_page_of_families_is_what_its_script_writes():
    root = Path(__file__).parents[3]
    script = runpy.run_path(str(root / "simulations" / "families_page.py"))
    files = [root / "simulations" / "results" / f"{name}.json" for name in ("families", "families_repeated")]
    results, loops = (json.loads(file.read_text(encoding="utf-8")) for file in files)
    assert (root / "docs" / "families.md").read_text(encoding="utf-8") == script["page"](results, loops)
    assert not [entry["type"] for entry in loops["types"] if entry["outcome"] == "differs"]
    composite = [entry["outcome"] for entry in results["types"] if entry["task"] == "composite"]
    alone = [entry["outcome"] for entry in results["types"] if entry["task"] != "composite"]
    assert alone.count("exact") >= 245
    assert composite.count("exact") >= 64
    assert all(entry["error"] < 2e-7 for entry in results["types"] if entry["outcome"] == "exact")


@pytest.mark.parametrize(
    ("heads", "width", "tokens"),
    [(1, 2, 8), (2, 4, 8), (2, 8, 8), (3, 8, 5), (4, 10, 9), (2, 10, 9), (2, 6, 2), (3, 16, 3)],
)
def test_fused_attention_is_attention_whatever_its_sizes(heads, width, tokens):
    """Falcon computes it by one operation, whose output is square for some sizes by chance; no matrix is seen."""
    sizes = {"vocab_size": 50, "hidden_size": heads * width, "num_hidden_layers": 2, "num_attention_heads": heads}
    more = {"num_kv_heads": 1, "new_decoder_architecture": True, "bos_token_id": 0, "eos_token_id": None}
    torch.manual_seed(0)
    model = transformers.FalconForCausalLM(transformers.FalconConfig(**sizes, **more, initializer_range=0.3))
    ids = torch.arange(1, tokens + 1)[None]
    structure = checkpoints.trace(model.double().eval(), {"input_ids": ids, "use_cache": False})
    assert [call.kinds for call in structure.calls] == [("attention", "mlp")] * 2
    assert not any(term.matrix for call in structure.calls for term in call.terms)
