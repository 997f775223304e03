"""Networks inside nnsight, TransformerLens, peft and torch.compile: the same signals as the network alone."""

import warnings

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from numpy.testing import assert_allclose, assert_array_equal  # noqa: E402  (after the skip)

from ctrlattn import InputError, checkpoints  # noqa: E402
from ctrlattn.checkpoints.network.proved import proved  # noqa: E402
from ctrlattn.checkpoints.trace.wrapped import Inside, network_in, require_same  # noqa: E402

SIZES = {"vocab_size": 50, "hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 3, "intermediate_size": 32}
IDS = np.array([3, 1, 4, 1, 5, 9, 2, 6])
GROUPED = {**SIZES, "num_key_value_heads": 1}
MAKERS = {
    "llama": lambda t: t.LlamaForCausalLM(t.LlamaConfig(**GROUPED)),
    "gpt2": lambda t: t.GPT2LMHeadModel(t.GPT2Config(vocab_size=50, n_embd=24, n_layer=3, n_head=3, n_positions=64)),
    "neox": lambda t: t.GPTNeoXForCausalLM(t.GPTNeoXConfig(**SIZES)),
    "gemma2": lambda t: t.Gemma2ForCausalLM(t.Gemma2Config(**GROUPED, head_dim=8)),
    "gemma3": lambda t: t.Gemma3ForCausalLM(t.Gemma3TextConfig(**GROUPED, head_dim=8)),
    "olmo2": lambda t: t.Olmo2ForCausalLM(t.Olmo2Config(**SIZES)),
    "phi3": lambda t: t.Phi3ForCausalLM(t.Phi3Config(**SIZES, pad_token_id=0)),
    "mixtral": lambda t: t.MixtralForCausalLM(t.MixtralConfig(**GROUPED, num_local_experts=4)),
    "bert": lambda t: t.BertForMaskedLM(t.BertConfig(**SIZES)),
}


def network(name="llama"):
    torch.manual_seed(0)
    model = MAKERS[name](transformers).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.2 * torch.randn_like(weight))
    return model


def real(package):
    """A package of others, or a skip: they are big, and are installed where these tests are asked for."""
    with warnings.catch_warnings(action="ignore"):
        return pytest.importorskip(package, reason=f"{package} is not installed", exc_type=ImportError)


def same_signals(checkpoint, name, rtol=1e-5):
    """The sums hold, and the stream and the matrices are those of the network alone."""
    recorded, alone = checkpoints.tap(checkpoint, IDS), checkpoints.tap(checkpoints.load(network(name)), IDS)
    scale = float(abs(alone["state"]).max())
    assert_allclose(checkpoints.recompose(recorded, checkpoint), recorded["state"][1:], atol=rtol * scale)
    assert_allclose(recorded["state"], alone["state"], atol=rtol * scale)
    for part in ("attention_out", "mlp_out", "attention"):
        assert_allclose(recorded[part], alone[part], atol=rtol * float(abs(alone[part]).max()), err_msg=part)


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.filterwarnings("ignore")
def test_a_bridge_of_transformer_lens_has_the_signals_of_its_network(name):
    real("transformer_lens")
    from transformer_lens.model_bridge.sources import build_bridge_from_module

    model = network(name)
    bridge = build_bridge_from_module(model, type(model).__name__, hf_config=model.config)
    loaded = checkpoints.load(bridge)
    assert loaded.model is model
    same_signals(loaded, name)
    structure = proved(model)
    assert all(call.kinds == ("attention", "mlp") for call in structure.calls)
    assert checkpoints.trace(bridge).layers == structure.layers


@pytest.mark.filterwarnings("ignore")
def test_a_bridge_whose_weights_were_folded_is_the_network_that_it_runs():
    """enable_compatibility_mode folds norms and centres what is written: the network inside computes the same."""
    real("transformer_lens")
    from transformer_lens.model_bridge.sources import build_bridge_from_module

    model = network("gpt2")
    bridge = build_bridge_from_module(model, "GPT2LMHeadModel", hf_config=model.config)
    bridge.enable_compatibility_mode(disable_warnings=True)
    recorded = checkpoints.tap(checkpoints.load(bridge), IDS)
    alone = checkpoints.tap(checkpoints.load(network("gpt2")), IDS)
    centred = alone["state"] - alone["state"].mean("feature")
    assert float(abs(recorded["state"] - alone["state"]).max()) > 0.1
    assert_allclose(recorded["state"], centred, atol=1e-5 * float(abs(centred).max()))
    assert_allclose(recorded["attention"], alone["attention"], atol=1e-5)


def tokenizer():
    words = {"[UNK]": 0, "[PAD]": 1, "[CLS]": 2, "[SEP]": 3, "[MASK]": 4, "a": 5}
    return transformers.BertTokenizer(vocab=words)


@pytest.mark.filterwarnings("ignore")
def test_a_model_of_nnsight_has_the_signals_of_its_network():
    nnsight = real("nnsight")
    for wrapper in (nnsight.LanguageModel(network(), tokenizer=tokenizer()), nnsight.NNsight(network())):
        loaded = checkpoints.load(wrapper)
        same_signals(loaded, "llama")
        assert checkpoints.trace(wrapper).layers == loaded.structure.layers
    assert checkpoints.load(nnsight.LanguageModel(network(), tokenizer=tokenizer())).tokenizer is not None


@pytest.mark.filterwarnings("ignore")
def test_what_nnsight_would_change_or_has_not_loaded_is_refused(tmp_path):
    nnsight = real("nnsight")
    model, words = network(), tokenizer()
    wrapper = nnsight.LanguageModel(model, tokenizer=words)
    with wrapper.edit() as (_, edited):
        edited.model.layers[1].output[0][:] = 0
    with pytest.raises(InputError, match=r"LanguageModel of nnsight has edits, .* clear_edits\(\)"):
        checkpoints.load(edited)
    assert checkpoints.load(wrapper).width == 24
    model.save_pretrained(tmp_path)
    lazy = nnsight.LanguageModel(str(tmp_path), tokenizer=words)
    with pytest.raises(InputError, match=r"not in memory .* nnsight with dispatch=True"):
        checkpoints.load(lazy)
    dispatched = nnsight.LanguageModel(str(tmp_path), tokenizer=words, dispatch=True)
    same_signals(checkpoints.load(dispatched), "llama")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_an_adapter_of_peft_is_read_as_it_is_and_merged():
    peft = real("peft")
    adapted = peft.get_peft_model(network(), peft.LoraConfig(target_modules=["v_proj", "down_proj"], r=4))
    for name, weight in adapted.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(weight, std=0.3)
    unmerged = checkpoints.tap(checkpoints.load(adapted), IDS)
    inside = checkpoints.load(adapted)
    assert_allclose(checkpoints.recompose(unmerged, inside), unmerged["state"][1:], atol=1e-4)
    maps = checkpoints.value_output(inside, 1)
    merged = checkpoints.load(adapted.merge_and_unload())
    after = checkpoints.tap(merged, IDS)
    assert_allclose(unmerged["state"], after["state"], atol=1e-5 * float(abs(after["state"]).max()))
    assert_allclose(maps.value, checkpoints.value_output(merged, 1).value, atol=1e-5)
    alone = checkpoints.tap(checkpoints.load(network()), IDS)
    assert float(abs(after["mlp_out"] - alone["mlp_out"]).max()) > 0.1


@pytest.mark.filterwarnings("ignore")
def test_a_learned_prompt_is_not_inside_the_network():
    peft = real("peft")
    config = peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3)
    with pytest.raises(InputError, match=r"PeftModelForCausalLM: the adapter learns a prompt, .* inside the network"):
        checkpoints.load(peft.get_peft_model(network(), config))


def like(library, name, **attributes):
    """An object of a class that another library defines, as far as its name goes."""
    kind = type(name, (), {"__module__": f"{library}.some.module"})
    made = kind()
    vars(made).update(attributes)
    return made


def test_wrappers_are_known_by_their_library_and_not_by_their_name():
    model = network()
    assert network_in(like("nnsight", "Envoy", _module=model)).model is model
    assert network_in(like("nnsight", "NNsight", _model=model, tokenizer="words")).tokenizer == "words"
    assert network_in(like("elsewhere", "NNsight", _module=model)) is None
    bridge = like("transformer_lens", "TransformerBridge", original_model=model)
    assert (network_in(bridge).model, network_in(bridge).outermost) == (model, bridge)
    compiled = torch.nn.Module()  # torch.compile would warn
    compiled._orig_mod = model
    assert network_in(compiled).model is model
    assert network_in(like("nnsight", "NNsight", _module=compiled)).model is model


@pytest.mark.parametrize(
    ("wrapper", "word"),
    [
        (("nnsight", "LanguageModel", {}), "LanguageModel of nnsight holds no network"),
        (("transformer_lens", "HookedTransformer", {}), "HookedTransformer of TransformerLens is not read: .*Bridge"),
        (("transformer_lens", "TransformerBridge", {}), "its network is not in this process"),
    ],
)
def test_what_holds_no_network_is_told(wrapper, word):
    library, name, attributes = wrapper
    with pytest.raises(InputError, match=word):
        checkpoints.load(like(library, name, **attributes))


def test_edits_of_nnsight_are_refused_without_it_too():
    edited = like("nnsight", "NNsight", _module=network(), _edits=[object()])
    with pytest.raises(InputError, match="has edits, which are not inside the network"):
        checkpoints.load(edited)


def test_a_wrapper_that_computes_something_else_is_refused():
    model = network()
    assert require_same(Inside(model, outermost=lambda ids: model(ids).logits)) is None
    with pytest.raises(InputError, match=r"function computes something else .* by 1\.0e-02 of the largest output"):
        require_same(Inside(model, outermost=lambda ids: 1.01 * model(ids).logits))
    with pytest.raises(InputError, match="by inf of the largest"):
        require_same(Inside(model, outermost=lambda ids: model(ids).logits[:, 1:]))


def test_a_row_is_proved_where_a_wrapper_may_have_changed_modules():
    """A wrapper that scales what the attention of one layer adds, past the norms and modules that a row names."""
    model = network()
    layer = model.model.layers[1]
    before = layer.forward

    def doubled(*args, **kwargs):
        return before(*args, **kwargs) * 2

    layer.forward = doubled
    wrapper = like("nnsight", "NNsight", _module=model)
    with pytest.raises(InputError, match="the row 'llama' given for LlamaForCausalLM does not say what layer 1 adds"):
        checkpoints.load(wrapper)


def test_a_bare_module_and_a_path_go_their_own_way():
    model = network()
    assert network_in(model).model is model
    assert network_in("a/directory") is None
    assert_array_equal(checkpoints.trace(model).layers, [f"model.layers.{i}" for i in range(3)])
    with pytest.raises(InputError, match="wanted is a network, a torch module: got str"):
        checkpoints.trace("a/directory")
