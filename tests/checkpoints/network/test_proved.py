"""A row that the user gives is right by its sums, or refused: renamed rows against the trace, over many types."""

from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

import numpy as np  # noqa: E402  (after the skip)

from ctrlattn import checkpoints  # noqa: E402
from ctrlattn.checkpoints.network.proved import require_row, tolerance  # noqa: E402
from ctrlattn.errors import InputError  # noqa: E402

ROOT = Path(__file__).parent.parent.parent.parent
LLAMA = checkpoints.FAMILIES["llama"]
BESIDE = replace(LLAMA, parallel="hidden_size", mlp=replace(LLAMA.mlp, norm="input_layernorm"))
ROWS = {
    "llama": LLAMA,
    "gemma2": checkpoints.FAMILIES["gemma2"],
    "beside": BESIDE,
    "bert": checkpoints.FAMILIES["bert"],
}
# (type, row) of networks whose every path is there, and which add something else, or elsewhere.
WRONG = [
    ("granite", "llama"), ("minicpm3", "llama"),
    ("beam", "gemma2"), ("doge", "llama"), ("deepseek_v4", "llama"), ("dory", "llama"), ("afmoe", "llama"),
    ("hyperclovax", "llama"), ("arcee", "beside"), ("mixtral", "beside"), ("qwen3_moe", "beside"), ("olmo", "beside"),
    ("dory", "gemma2"), ("kolibri1", "llama"),
]  # fmt: skip
RIGHT = [("mixtral", "llama"), ("olmo", "llama"), ("phi", "beside"), ("cohere", "beside"), ("electra", "bert")]


@pytest.fixture
def tiny(monkeypatch):
    """The builders of tiny networks of every type, each weight perturbed."""
    monkeypatch.syspath_prepend(str(ROOT / "simulations"))
    from stage import tiny_networks

    cases = {kind: (task, kind, name) for task, kind, name in reversed(list(tiny_networks.cases()))}

    def made(kind):
        model = tiny_networks.network(*cases[kind])
        scaled = getattr(model.config, "residual_multiplier", None)
        if scaled is not None:  # 1 by default, which hides it
            model = tiny_networks.network(*cases[kind])
            for module in model.modules():
                if hasattr(module, "residual_multiplier"):
                    module.residual_multiplier = 0.22
        return model, tiny_networks.inputs(*cases[kind][:2], model)

    return made


@pytest.mark.parametrize(("kind", "row"), WRONG)
def test_a_wrong_row_is_refused_with_the_layer_and_the_error(tiny, kind, row):
    model, given = tiny(kind)
    with pytest.raises(
        InputError, match=r"the row '.*layer \d.*differs? by (inf|\d\.\de[+-]\d\d)|signals state in one"
    ):
        checkpoints.load(model, family=replace(ROWS[row], name=kind), inputs=given)


@pytest.mark.parametrize(("kind", "row"), RIGHT)
def test_a_right_row_gives_the_signals_of_the_trace(tiny, kind, row):
    model, given = tiny(kind)
    by_row = checkpoints.tap(checkpoints.load(model, family=replace(ROWS[row], name=kind), inputs=given), [7, 8, 9])
    traced = checkpoints.tap(checkpoints.load(model, inputs=given), [7, 8, 9])
    for name in ("state", "attention_out", "mlp_out"):
        assert np.abs(by_row[name].to_numpy() - traced[name].to_numpy()).max() <= 1e-12


def llama():
    torch.manual_seed(0)
    sizes = {"vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 4}
    return transformers.LlamaModel(transformers.LlamaConfig(**sizes, intermediate_size=24)).double()


def test_the_worst_layer_is_named():
    """Of a network in which one layer adds a part of its MLP alone, by the factor that is missing."""
    model = llama()

    class Half(torch.nn.Module):
        def __init__(self, norm):
            super().__init__()
            self.norm = norm

        def forward(self, x):
            return self.norm(0.5 * x)

    def added_once_more(layer, args, output):
        return output + 0.25 * args[0]

    model.layers[1].register_forward_hook(added_once_more)
    with pytest.raises(InputError, match="what layer 1 adds to its stream: the sum differs by"):
        checkpoints.load(model, family=LLAMA)


def test_a_network_that_sees_ahead_is_not_causal():
    model = llama()
    for layer in model.layers:
        layer.self_attn.is_causal = False
    original = model.layers[0].self_attn.forward
    model.layers[0].self_attn.forward = lambda *args, **kwargs: original(*args, **{**kwargs, "attention_mask": None})
    with pytest.raises(InputError, match="says that no token sees those behind it, and they change by"):
        checkpoints.load(model, family=LLAMA)
    assert checkpoints.load(model, family=replace(LLAMA, causal=False)).causal is False


def test_a_module_that_does_not_run_is_named():
    model = llama()
    for layer in model.layers:
        layer.beside = torch.nn.Linear(16, 16).double()
    idle = replace(LLAMA, mlp=replace(LLAMA.mlp, module="beside", out="beside"))
    with pytest.raises(InputError, match="give 0 signals mid in one pass, and the network has 3 layers"):
        checkpoints.load(model, family=idle)
    late = replace(LLAMA, attention=replace(LLAMA.attention, norm="post_attention_layernorm"))
    with pytest.raises(InputError, match="the attention of layer 0 gives its contribution before the norm"):
        checkpoints.load(model, family=late)


def test_inputs_that_it_does_not_run_on_say_so():
    with pytest.raises(InputError, match="LlamaModel does not run on the inputs input_ids"):
        checkpoints.load(llama(), family=LLAMA, inputs={"input_ids": torch.tensor([[99]])})


def test_a_traced_network_has_been_proved():
    network = checkpoints.load(transformers.OlmoModel(transformers.OlmoConfig(**dict.fromkeys(
        ("vocab_size", "hidden_size", "intermediate_size"), 16), num_hidden_layers=1, num_attention_heads=2,
        pad_token_id=0, eos_token_id=None)))  # fmt: skip
    assert require_row(network) is network


@pytest.mark.parametrize(("dtype", "limit"), [(torch.float64, 1e-9), (torch.float32, 1e-4), (torch.bfloat16, 6e-2)])
def test_the_limit_of_a_type(dtype, limit):
    assert tolerance(dtype) == limit
