"""A network whose weights stay on disk gives the numbers of the loaded one, and holds none of them between calls."""

import numpy as np
import pytest
import torch
import transformers
import xarray as xr
from numpy.testing import assert_allclose

from ctrlattn import InputError, checkpoints
from ctrlattn.checkpoints.measure.part_names import PART_NAMES
from ctrlattn.checkpoints.network.expert_stack import ExpertStack
from ctrlattn.checkpoints.network.stored_weights import StoredWeights
from ctrlattn.checkpoints.trace import follow
from ctrlattn.checkpoints.trace.alike import first_alike, signatures_of

SIZES = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 4, "vocab_size": 31}
GROUPED = {**SIZES, "intermediate_size": 24, "num_key_value_heads": 2}
IDS = [3, 1, 4, 1, 5, 9]
MODELS = {
    "llama": lambda: transformers.LlamaForCausalLM(transformers.LlamaConfig(**GROUPED)),
    "qwen3": lambda: transformers.Qwen3ForCausalLM(transformers.Qwen3Config(**GROUPED, head_dim=4)),
    "gpt2": lambda: transformers.GPT2LMHeadModel(
        transformers.GPT2Config(n_embd=16, n_layer=3, n_head=4, vocab_size=31)
    ),
    "neox": lambda: transformers.GPTNeoXForCausalLM(transformers.GPTNeoXConfig(**SIZES, intermediate_size=24)),
}


@pytest.fixture(scope="module", params=MODELS)
def pair(request, tmp_path_factory):
    """(the network with its weights on disk, the same loaded), sharded and in bfloat16."""
    folder = tmp_path_factory.mktemp(request.param)
    torch.manual_seed(0)
    MODELS[request.param]().to(torch.bfloat16).save_pretrained(folder, max_shard_size="8KB")
    assert (folder / "model.safetensors.index.json").is_file()
    return checkpoints.on_disk(folder), checkpoints.load(folder)


@pytest.mark.slow
def test_profiles_are_equal(pair):
    effort = checkpoints.Effort(probes=2, singular=1, lanczos=2, arnoldi=4, commutator=2, exponents=2, sweeps=1)
    # Every part of one family; what nonnormality asks of a layer is asked by the two behind the gains as well.
    parts = [part for part in PART_NAMES if part != "nonnormality" or pair[1].family.name == "llama"]
    lazy, whole = (checkpoints.feedback_profile(network, IDS, effort=effort, parts=parts) for network in pair)
    assert set(lazy.data_vars) == set(whole.data_vars)
    for name in ("feedback_gain", "predicted_share", "head_gain", "value_eigenvalue", "sigma", "exponent"):
        assert_allclose(lazy[name], whole[name], rtol=1e-6, atol=1e-9, err_msg=name)


def test_importance_is_equal(pair):
    lazy, whole = (checkpoints.importance(network, np.array([IDS, IDS[::-1]])) for network in pair)
    for name in whole.data_vars:
        assert_allclose(lazy[name], whole[name], rtol=1e-6, err_msg=name)


def test_a_file_is_opened_again_before_its_pages_fill_the_memory(pair, monkeypatch):
    import safetensors

    lazy, whole = pair
    opened = []
    monkeypatch.setattr("ctrlattn.checkpoints.network.stored_weights._AT_ONCE", 1)
    once = safetensors.safe_open
    monkeypatch.setattr("safetensors.safe_open", lambda path, kind: opened.append(path) or once(path, kind))
    a, b = (checkpoints.tap(network, IDS)["state"] for network in (lazy, whole))
    assert_allclose(a, b, rtol=1e-6, atol=1e-9)
    assert len(opened) >= sum(1 for layer in lazy.layers for _ in layer.parameters())


def test_no_layer_keeps_its_weights(pair):
    lazy, _ = pair
    checkpoints.tap(lazy, IDS)
    for layer in lazy.layers:
        assert all(weight.is_meta for weight in layer.parameters())


def test_one_layer_at_a_time_has_weights(pair):
    lazy, _ = pair
    counts = []
    handles = [
        layer.register_forward_hook(
            lambda *_: counts.append(sum(not next(each.parameters()).is_meta for each in lazy.layers))
        )
        for layer in lazy.layers
    ]
    inner = [
        next(m for m in layer.modules() if isinstance(m, torch.nn.Linear) or "Conv1D" in type(m).__name__)
        for layer in lazy.layers
    ]
    during = []
    handles += [
        module.register_forward_hook(
            lambda *_: during.append(sum(not next(each.parameters()).is_meta for each in lazy.layers))
        )
        for module in inner
    ]
    checkpoints.tap(lazy, IDS)
    for handle in handles:
        handle.remove()
    assert counts == [0, 0, 0]  # behind the layer
    assert during == [1, 1, 1]


EXPERTS = {
    "olmo2": {},
    "qwen3_moe": {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 8, "head_dim": 4},
    "gpt_oss": {"num_local_experts": 4, "num_experts_per_tok": 2, "head_dim": 4},  # turned stacks, with a bias
    "qwen2_moe": {
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 8,
        "shared_expert_intermediate_size": 8,
    },
}


def saved(folder, name):
    config = transformers.AutoConfig.for_model(name, **GROUPED, **EXPERTS[name], pad_token_id=0)
    assert config.model_type not in checkpoints.FAMILIES
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config).to(torch.bfloat16)
    model.save_pretrained(folder, max_shard_size="8KB")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPERTS)
def test_a_network_without_a_row_is_traced_on_disk(tmp_path, monkeypatch, name):
    """Layers alike are followed once: what is followed stays in memory until the trace ends, and grows with them."""
    opened, plain = [], follow._Watch._open
    monkeypatch.setattr(follow._Watch, "_open", lambda self, *given: (opened.append(0), plain(self, *given)))
    lazy, on_disk = checkpoints.on_disk(saved(tmp_path, name)), len(opened)
    whole = checkpoints.load(tmp_path)
    assert 2 * on_disk == len(opened) < 6
    assert [call.kinds for call in lazy.structure.calls] == [call.kinds for call in whole.structure.calls]
    a, b = (checkpoints.feedback_profile(network, IDS, parts=["feedback", "sinks"]) for network in (lazy, whole))
    for variable in b.data_vars:
        assert_allclose(a[variable], b[variable], rtol=1e-6, atol=1e-9, err_msg=variable)
    assert all(weight.is_meta for layer in lazy.layers for weight in layer.parameters())


OWN_NUMBERS = {  # buffers that no file holds, weights without a layer, norms behind a sum, other names in the file
    "gemma3_text": {"head_dim": 4},
    "gemma4_text": {"head_dim": 4, "hidden_size_per_layer_input": 4, "vocab_size_per_layer_input": 31},
    "bert": {},
    "falcon_h1": {
        "mamba_d_ssm": 32,
        "mamba_n_heads": 4,
        "mamba_d_head": 8,
        "ssm_multipliers": [2.0, 0.5, 0.7, 3.0, 1.5],
    },
    "doge": {},
    "mixtral": {"num_local_experts": 4},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", OWN_NUMBERS)
def test_numbers_that_no_layer_has_as_weights_are_those_of_the_loaded_network(tmp_path, name):
    config = transformers.AutoConfig.for_model(name, **GROUPED, **OWN_NUMBERS[name], pad_token_id=3)
    torch.manual_seed(0)
    model = (transformers.AutoModel if name == "bert" else transformers.AutoModelForCausalLM).from_config(config)
    with torch.no_grad():
        for weight in (*model.parameters(), *(b for key, b in model.named_buffers() if "layer_scalar" in key)):
            weight.add_(0.1 * torch.randn(weight.shape))  # also norms, which begin at 1
    model.save_pretrained(tmp_path)
    state = torch.random.get_rng_state()
    lazy = checkpoints.on_disk(tmp_path)
    assert torch.equal(torch.random.get_rng_state(), state)
    whole = checkpoints.load(tmp_path)
    b = checkpoints.feedback_profile(whole, IDS, parts=["feedback", "sinks"])
    for _ in range(2):  # what a pass leaves behind changes no later one
        a = checkpoints.feedback_profile(lazy, IDS, parts=["feedback", "sinks"])
        for variable in b.data_vars:
            assert_allclose(a[variable], b[variable], rtol=2e-6, atol=1e-9, err_msg=variable)
    left = [w.numel() for key, w in lazy.model.named_parameters() if "embed" in key and "norm" not in key.lower()]
    assert max(left, default=0) < 31 * 16  # no embedding of all words


SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
IMAGE = {"image_size": 8, "patch_size": 4}


def perturbed(model, folder):
    """The model saved with weights of which none is what it is by default."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.1 * torch.randn(weight.shape, generator=generator))
    model.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("cls", ["ViTForImageClassification", "ViTModel", "DeiTForImageClassification"])
def test_a_network_that_reads_images_is_that_of_memory(tmp_path, cls):
    own = getattr(transformers, cls)
    torch.manual_seed(0)
    perturbed(own(own.config_class(**SMALL, **IMAGE)), tmp_path)
    image = np.random.default_rng(0).standard_normal((3, 8, 8)).astype(np.float32)
    lazy, whole = checkpoints.on_disk(tmp_path), checkpoints.load(tmp_path)
    effort = checkpoints.Effort(probes=2, singular=1, lanczos=2, arnoldi=4, commutator=2, exponents=2, sweeps=1)
    a, b = (checkpoints.feedback_profile(network, image, effort=effort) for network in (lazy, whole))
    assert set(a.data_vars) == set(b.data_vars)
    # Sums of float32 are in an order that depends on where weights lie: about ten roundings, also of a logarithm.
    names = ("sigma", "random_gain", "exponent", "value_eigenvalue", "feedback_gain", "predicted_share", "head_gain")
    for name in names:
        assert_allclose(a[name], b[name], rtol=1e-5, atol=1e-6, err_msg=name)
    a, b = (checkpoints.importance(network, image[None]) for network in (lazy, whole))
    xr.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    assert all(weight.is_meta for layer in lazy.layers for weight in layer.parameters())


@pytest.mark.parametrize("cls", ["BertForMaskedLM", "BertModel"])
def test_a_network_whose_file_has_no_pooler_is_read_without_it(tmp_path, cls):
    own = getattr(transformers, cls)
    options = {"add_pooling_layer": False} if cls == "BertModel" else {}
    # In pieces of two tokens an MLP would show its signals piece by piece.
    config = transformers.BertConfig(**SMALL, vocab_size=31, chunk_size_feed_forward=2)
    torch.manual_seed(0)
    perturbed(own(config, **options), tmp_path)
    lazy, whole = checkpoints.on_disk(tmp_path), checkpoints.load(tmp_path)
    a, b = (
        checkpoints.feedback_profile(network, IDS, parts=["feedback", "heads", "sinks"]) for network in (lazy, whole)
    )
    xr.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    pooled = lazy.model(torch.tensor([IDS])).pooler_output
    assert torch.isnan(pooled).all()  # no number rather than a random one


def test_the_decoder_of_two_stacks_is_read_alone(tmp_path):
    """Its layers are more than the configuration's num_hidden_layers, which counts those of the encoder."""
    sizes = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 3, "decoder_attention_heads": 2, "vocab_size": 31}
    torch.manual_seed(0)
    perturbed(transformers.BartForCausalLM(transformers.BartConfig(**sizes, decoder_ffn_dim=24)), tmp_path)
    lazy, whole = checkpoints.on_disk(tmp_path), checkpoints.load(tmp_path)
    a, b = (checkpoints.tap(network, IDS)["state"] for network in (lazy, whole))
    assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    assert len(lazy.layers) == 3
    assert not [weight for layer in lazy.layers for weight in layer.self_attn.parameters() if not weight.is_meta]


def test_a_text_longer_than_the_positions_is_refused_as_in_memory(tmp_path):
    config = transformers.GPT2Config(n_embd=16, n_layer=1, n_head=4, vocab_size=31, n_positions=5)
    transformers.GPT2LMHeadModel(config).save_pretrained(tmp_path)
    for network in (checkpoints.on_disk(tmp_path), checkpoints.load(tmp_path)):
        with pytest.raises(InputError, match="6 tokens at once, and the network has positions for 5"):
            checkpoints.tap(network, IDS)


def test_a_table_of_whole_numbers_keeps_its_type(tmp_path):
    """The hash layers of deepseek_v4 choose experts by a table that the file holds."""
    sizes = {"head_dim": 8, "q_lora_rank": 8, "o_lora_rank": 8, "n_routed_experts": 4, "num_experts_per_tok": 2}
    config = transformers.AutoConfig.for_model("deepseek_v4", **GROUPED, **sizes, moe_intermediate_size=8)
    model = transformers.AutoModelForCausalLM.from_config(config)
    name, table = next((n, b) for n, b in model.named_buffers() if n.endswith("tid2eid"))
    table.copy_(torch.randint(0, 4, table.shape))
    model.save_pretrained(tmp_path)
    own = checkpoints.on_disk(tmp_path).model.get_buffer(name.removeprefix("model."))
    assert own.dtype == table.dtype
    assert torch.equal(own, table)


def test_numbers_that_transformers_would_not_make_are_refused(tmp_path, monkeypatch):
    transformers.LlamaForCausalLM(transformers.LlamaConfig(**GROUPED)).save_pretrained(tmp_path)
    monkeypatch.setattr(transformers.LlamaModel, "_init_weights", lambda *_: None)
    with pytest.raises(InputError, match=r"the numbers model\.rotary_emb\.\w*inv_freq are neither a weight nor made"):
        checkpoints.on_disk(tmp_path)


def test_stacks_of_experts_set_no_layer_apart_and_anything_else_in_their_place_does():
    def layer(stack):
        module = torch.nn.Linear(2, 2)
        module.stack = stack
        return module

    stacks = [ExpertStack((3, 2, 2), member=lambda i: None, whole=lambda: None) for _ in range(2)]
    layers = torch.nn.ModuleList(map(layer, [*stacks, torch.ones(3, 2, 2)]))
    assert first_alike(signatures_of(layers, ["0", "1", "2"])) == {"0": "0", "1": "0", "2": "2"}


def taken(network, layer):
    """The experts that the tokens of the text take in a layer, as its router says."""
    chosen = []
    router = network.layers[layer].mlp.gate
    handle = router.register_forward_hook(lambda *call: chosen.extend(call[-1][-1].unique().tolist()))
    checkpoints.tap(network, IDS[:1])
    handle.remove()
    return sorted(set(chosen))


@pytest.mark.parametrize("name", ["qwen3_moe", "qwen2_moe"])
def test_a_pass_reads_the_experts_that_it_takes_and_no_stack(tmp_path, name, monkeypatch):
    store = "ctrlattn.checkpoints.network.on_disk.StoredWeights"
    expert, read, asked, wholes = StoredWeights.expert, StoredWeights.read, [], []
    monkeypatch.setattr(f"{store}.expert", lambda self, stack, i: asked.append((stack, i)) or expert(self, stack, i))
    monkeypatch.setattr(f"{store}.read", lambda self, names: wholes.extend(names) or read(self, names))
    lazy = checkpoints.on_disk(saved(tmp_path, name))
    wanted = [(layer, i) for layer in range(3) for i in taken(lazy, layer)]
    asked.clear()
    wholes.clear()
    checkpoints.tap(lazy, IDS[:1])
    for part in ("gate_up_proj", "down_proj"):
        assert [(int(stack.split(".")[1]), i) for stack, i in asked if stack.endswith(part)] == wanted
    assert 3 <= len(wanted) < 12
    assert not [stack for stack in wholes if ".experts." in stack]


@pytest.mark.parametrize("name", ["qwen3_moe", "olmo2"])
def test_a_pass_that_fails_leaves_no_weights_behind(tmp_path, name):
    """The next pass would hold those of two layers."""
    lazy = checkpoints.on_disk(saved(tmp_path, name))

    def fails(*_):
        raise ArithmeticError("in the middle of a layer")

    handle = lazy.layers[1].mlp.register_forward_hook(fails)
    with pytest.raises(ArithmeticError):
        checkpoints.tap(lazy, IDS)
    handle.remove()
    assert all(weight.is_meta for layer in lazy.layers for weight in layer.parameters())


def test_experts_that_are_missing_in_the_file_are_told(tmp_path):
    config = transformers.AutoConfig.for_model(
        "qwen3_moe", **GROUPED, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=8, head_dim=4
    )
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    from safetensors.torch import load_file, save_file

    tensors = load_file(tmp_path / "model.safetensors")
    del tensors["model.layers.1.mlp.experts.3.up_proj.weight"]
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"1 weights .* the first is layers.1.mlp.experts.gate_up_proj"):
        checkpoints.on_disk(tmp_path)


def test_a_changed_structure_and_an_adapter_are_refused(tmp_path):
    network = checkpoints.load(transformers.LlamaForCausalLM(transformers.LlamaConfig(**GROUPED)))
    checkpoints.save(checkpoints.drop(network, attention=[1]), tmp_path / "dropped")
    with pytest.raises(InputError, match="changed structure"):
        checkpoints.on_disk(tmp_path / "dropped")
    checkpoints.save(network, tmp_path / "whole")
    (tmp_path / "whole" / "adapter_config.json").write_text("{}")
    with pytest.raises(InputError, match="an adapter"):
        checkpoints.on_disk(tmp_path / "whole")


def test_weights_in_other_pieces_are_refused(tmp_path):
    transformers.LlamaForCausalLM(transformers.LlamaConfig(**GROUPED)).save_pretrained(tmp_path)
    from safetensors.torch import load_file, save_file

    tensors = load_file(tmp_path / "model.safetensors")
    tensors["model.layers.1.mlp.other.weight"] = tensors.pop("model.layers.1.mlp.up_proj.weight")
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match="not in the file as it has them"):
        checkpoints.on_disk(tmp_path)


def test_a_file_that_is_changed_between_two_passes_is_told(tmp_path):
    transformers.LlamaForCausalLM(transformers.LlamaConfig(**GROUPED)).save_pretrained(tmp_path)
    lazy = checkpoints.on_disk(tmp_path)
    checkpoints.tap(lazy, IDS)
    with (tmp_path / "model.safetensors").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\1")
    with pytest.raises(InputError, match=r"model\.safetensors: was changed while it was read"):
        checkpoints.tap(lazy, IDS)
