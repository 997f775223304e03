"""The table against the networks themselves: every family on a tiny model of its own class, in float64."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from ctrlattn import checkpoints  # noqa: E402  (after the skip)
from ctrlattn.checkpoints import FAMILIES  # noqa: E402
from ctrlattn.checkpoints.network import families  # noqa: E402

SIZES = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 24}
TEXT = {"vocab_size": 40, "max_position_embeddings": 64, "pad_token_id": 0, **SIZES}
GROUPED = {**TEXT, "num_key_value_heads": 2, "head_dim": 4}
SLIDING = {**GROUPED, "sliding_window": 4, "query_pre_attn_scalar": 4}
IMAGE = {"image_size": 8, "patch_size": 4, **SIZES}
MODELS = {
    "llama": lambda t: t.LlamaModel(t.LlamaConfig(**GROUPED, attention_bias=True)),
    "llama with a head": lambda t: t.LlamaForCausalLM(t.LlamaConfig(**GROUPED)),
    "mistral": lambda t: t.MistralModel(t.MistralConfig(**GROUPED, sliding_window=3)),
    "qwen2": lambda t: t.Qwen2Model(t.Qwen2Config(**TEXT, num_key_value_heads=1)),
    "qwen3": lambda t: t.Qwen3Model(t.Qwen3Config(**{**GROUPED, "head_dim": 6})),
    "smollm3": lambda t: t.SmolLM3Model(t.SmolLM3Config(**GROUPED)),
    "gemma": lambda t: t.GemmaModel(t.GemmaConfig(**GROUPED)),
    "gemma2": lambda t: t.Gemma2Model(t.Gemma2Config(**SLIDING)),
    "gemma3_text": lambda t: t.Gemma3ForCausalLM(t.Gemma3TextConfig(**{**SLIDING, "head_dim": 6})),
    "gpt2": lambda t: t.GPT2LMHeadModel(
        t.GPT2Config(vocab_size=40, n_embd=16, n_layer=3, n_head=4, n_positions=64, bos_token_id=0, eos_token_id=0)
    ),
    "gpt_neox": lambda t: t.GPTNeoXForCausalLM(t.GPTNeoXConfig(**TEXT)),
    "gpt_neox one after the other": lambda t: t.GPTNeoXModel(t.GPTNeoXConfig(**TEXT, use_parallel_residual=False)),
    "bert": lambda t: t.BertModel(t.BertConfig(**TEXT)),
    "roberta": lambda t: t.RobertaForMaskedLM(t.RobertaConfig(**TEXT)),
    "xlm-roberta": lambda t: t.XLMRobertaModel(t.XLMRobertaConfig(**TEXT)),
    "vit": lambda t: t.ViTModel(t.ViTConfig(**IMAGE)),
    "deit": lambda t: t.DeiTForImageClassification(t.DeiTConfig(**IMAGE)),
}
IDS = [3, 1, 4, 1, 5, 9, 2]


def tiny(name):
    torch.manual_seed(0)
    model = MODELS[name](transformers).double().eval()
    with torch.no_grad():  # away from zero biases and unit norms, so that a forgotten one is seen
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model


def given(checkpoint):
    if checkpoint.model.main_input_name == "pixel_values":
        return np.random.default_rng(0).standard_normal((3, 8, 8))
    return IDS


@pytest.fixture(params=MODELS)
def checkpoint(request):
    return checkpoints.load(tiny(request.param))


def hidden_states(checkpoint):
    """Streams by transformers' own recorder."""
    ids = given(checkpoint)
    value = torch.tensor(np.asarray(ids))[None]
    with torch.no_grad():
        out = checkpoint.model(**{checkpoint.model.main_input_name: value}, output_hidden_states=True)
    return torch.cat(out.hidden_states).numpy()


def test_every_family_of_the_table_is_tested():
    assert {MODELS[name](transformers).config.model_type for name in MODELS} == set(FAMILIES)


def test_contributions_sum_to_the_stream(checkpoint):
    """Pre-norm: the sum is the next stream. Post-norm: the norm of the sum is."""
    text = checkpoints.tap(checkpoint, given(checkpoint))
    state, mid = text["state"].to_numpy(), text["mid"].to_numpy()
    after = (state[:-1] + text["attention_out"].to_numpy(), mid + text["mlp_out"].to_numpy())
    if checkpoint.family.norm == "post":
        norms = {kind: [sublayer.norm for sublayer in checkpoint.sublayers(kind)] for kind in ("attention", "mlp")}
        with torch.no_grad():
            after = tuple(
                np.stack([norm(torch.tensor(x)).numpy() for norm, x in zip(norms[kind], sums, strict=True)])
                for kind, sums in zip(norms, after, strict=True)
            )
    scale = np.abs(state).max()
    assert_allclose(mid, after[0], rtol=0, atol=1e-14 * scale)
    assert_allclose(state[1:], after[1], rtol=0, atol=1e-14 * scale)


def test_the_stream_is_the_one_of_transformers(checkpoint):
    theirs, ours = hidden_states(checkpoint), checkpoints.tap(checkpoint, given(checkpoint))["state"].to_numpy()
    # The last hidden state of a decoder is normed once more.
    end = None if checkpoint.family.norm == "post" else -1
    assert_allclose(ours[:end], theirs[:end], rtol=0, atol=1e-14 * np.abs(theirs).max())


def test_attention_is_what_the_maps_and_matrices_say(checkpoint):
    """sum_h W_O A_h (W_V z + b_V) + b_O, z the stream through the folded norm, is the recorded contribution."""
    text = checkpoints.tap(checkpoint, given(checkpoint))
    for layer in range(text.sizes["layer"]):
        maps = checkpoints.value_output(checkpoint, layer, fold_norm=True)
        x = text["state"].to_numpy()[layer]
        centred = "LayerNorm" in type(checkpoint.sublayers("attention")[layer].norm).__name__
        z = x
        if checkpoint.family.norm == "pre":
            z = x / np.sqrt(np.var(x, -1, keepdims=True) if centred else np.mean(x * x, -1, keepdims=True))
        v = np.einsum("hpd,jd->hjp", maps.value, z) + maps.value_bias[:, None]
        y = np.einsum("hdp,hij,hjp->id", maps.output, text["attention"].to_numpy()[layer], v) + maps.output_bias
        if checkpoint.sublayers("attention")[layer].out_path == "post_attention_layernorm":
            plain = checkpoints.value_output(checkpoint, layer).output
            raw = np.einsum("hdp,hij,hjp->id", plain, text["attention"].to_numpy()[layer], v)
            y = y / np.sqrt(np.mean(raw * raw, -1, keepdims=True))
        # eps of the norms, and norms that transformers computes in float32
        assert_allclose(y, text["attention_out"][layer], rtol=2e-4, atol=2e-4 * np.abs(y).max())


def test_maps_without_folding_are_exact(checkpoint):
    """The same sum on what the attention module really read: nothing but rounding is left."""
    layer, seen = 1, {}
    module = checkpoint.layers[layer]
    attention = checkpoint.sublayers("attention")[layer]
    source = attention.norm if checkpoint.family.norm == "pre" else module
    inner = families.at(module, checkpoint.family.output)
    hooks = [inner.register_forward_hook(lambda m, a, out: seen.update(y=out[0].numpy()))]
    if checkpoint.family.norm == "pre":
        hooks.append(source.register_forward_hook(lambda m, a, out: seen.update(z=out[0].numpy())))
    text = checkpoints.tap(checkpoint, given(checkpoint))
    for hook in hooks:
        hook.remove()
    z = seen.get("z", text["state"].to_numpy()[layer])
    maps = checkpoints.value_output(checkpoint, layer)
    v = np.einsum("hpd,jd->hjp", maps.value, z) + maps.value_bias[:, None]
    y = np.einsum("hdp,hij,hjp->id", maps.output, text["attention"].to_numpy()[layer], v) + maps.output_bias
    assert_allclose(y, seen["y"], rtol=0, atol=1e-13 * np.abs(y).max())


def test_a_dropped_sublayer_adds_nothing(checkpoint):
    """A module of zeros at `path` takes exactly this contribution away; of a post-norm network at `out_path`."""

    class Nothing(torch.nn.Module):
        def forward(self, *args, **kwargs):
            like = args[0] if args else kwargs["hidden_states"]
            return self.result(torch.zeros((*like.shape[:-1], 16), dtype=like.dtype))

    for one in checkpoint.sublayers():
        if one.layer != 1:
            continue
        nothing = Nothing()
        tuple_wanted = one.kind == "attention" and checkpoint.family.norm == "pre"
        nothing.result = (lambda zero: (zero, None)) if tuple_wanted else (lambda zero: zero)
        parent, _, name = (one.out_path if checkpoint.family.norm == "post" else one.path).rpartition(".")
        holder = families.at(checkpoint.layers[1], parent) if parent else checkpoint.layers[1]
        before = getattr(holder, name)
        setattr(holder, name, nothing)
        text = checkpoints.tap(checkpoint, given(checkpoint))
        assert np.all(text[f"{one.kind}_out"].to_numpy()[1] == 0)
        assert np.any(text[f"{one.kind}_out"].to_numpy()[2] != 0)
        setattr(holder, name, before)


PHI = checkpoints.Family(
    name="phi",
    norm="pre",
    causal=True,
    layers="layers",
    attention=checkpoints.Place(norm="input_layernorm", module="self_attn"),
    mlp=checkpoints.Place(norm="input_layernorm", module="mlp"),
    matrix="self_attn",
    value="self_attn.v_proj",
    output="self_attn.dense",
    parallel="hidden_size",  # always: any value of the configuration that is not 0
)
OUTSIDE = {
    "olmo": (
        lambda t: t.OlmoForCausalLM(t.OlmoConfig(**GROUPED, eos_token_id=0)),
        replace(FAMILIES["llama"], name="olmo"),
    ),
    "phi": (lambda t: t.PhiForCausalLM(t.PhiConfig(**TEXT)), PHI),
}


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_family_of_transformers_outside_the_table_takes_a_few_lines(name):
    """Everything that a family of the table can do: signals, profile, a smaller network that generates."""
    make, family = OUTSIDE[name]
    torch.manual_seed(0)
    model = make(transformers).double()
    traced = checkpoints.load(model).structure
    assert traced.plain
    assert [term.path for term in traced.calls[0].terms] == [family.attention.module, family.mlp.module]
    checkpoint = checkpoints.load(model, family=family)
    text = checkpoints.tap(checkpoint, IDS)
    after = text["state"].to_numpy()[:-1] + text["attention_out"].to_numpy() + text["mlp_out"].to_numpy()
    assert_allclose(text["state"][1:], after, rtol=0, atol=1e-14 * np.abs(after).max())
    assert_allclose(text["state"][:-1], hidden_states(checkpoint)[:-1], rtol=0, atol=1e-14 * np.abs(after).max())
    profile = checkpoints.feedback_profile(checkpoint, IDS, parts=["heads", "value_output", "gain"])
    assert np.isfinite(profile["sigma"]).all()
    smaller = checkpoints.drop(checkpoint, attention=[1])
    assert np.all(checkpoints.tap(smaller, IDS)["attention_out"].to_numpy()[1] == 0)


class InventedConfig(transformers.PretrainedConfig):
    model_type = "invented"
    hidden_size, num_attention_heads = 6, 2


class Mix(torch.nn.Module):
    """One fixed attention matrix for both heads."""

    def __init__(self):
        super().__init__()
        self.v, self.o = torch.nn.Linear(6, 6), torch.nn.Linear(6, 6)

    def forward(self, hidden_states):
        n = hidden_states.shape[1]
        matrix = torch.full((1, 2, n, n), 1 / n, dtype=hidden_states.dtype)
        v = self.v(hidden_states).unflatten(-1, (2, 3)).transpose(1, 2)
        return self.o((matrix @ v).transpose(1, 2).flatten(2)), matrix


class Block(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.before, self.between = torch.nn.LayerNorm(6), torch.nn.LayerNorm(6)
        self.mix, self.think = Mix(), torch.nn.Linear(6, 6)

    def forward(self, hidden_states):
        x = hidden_states + self.mix(self.before(hidden_states))[0]
        return x + self.think(self.between(x))


class Invented(transformers.PreTrainedModel):
    config_class = InventedConfig
    _supports_sdpa = True

    def __init__(self, config):
        super().__init__(config)
        self.words, self.blocks = torch.nn.Embedding(9, 6), torch.nn.ModuleList([Block(), Block()])
        self.post_init()

    def get_input_embeddings(self):
        return self.words

    def forward(self, input_ids):
        x = self.words(input_ids)
        for block in self.blocks:
            x = block(hidden_states=x)
        return x


def test_an_invented_network_is_registered_in_a_few_lines():
    torch.manual_seed(0)
    model = Invented(InventedConfig()).double()
    assert [term.path for term in checkpoints.load(model).structure.calls[1].terms] == ["mix", "think"]
    family = checkpoints.Family(
        name="invented",
        norm="pre",
        causal=False,
        layers="blocks",
        attention=checkpoints.Place(norm="before", module="mix"),
        mlp=checkpoints.Place(norm="between", module="think"),
        matrix="mix",
        value="mix.v",
        output="mix.o",
    )
    checkpoint = checkpoints.load(model, family=family)
    text = checkpoints.tap(checkpoint, [1, 2, 3, 4])
    assert_allclose(text["mid"], text["state"].to_numpy()[:-1] + text["attention_out"].to_numpy(), atol=1e-14)
    assert_allclose(text["state"][1:], text["mid"].to_numpy() + text["mlp_out"].to_numpy(), atol=1e-14)
    maps = checkpoints.value_output(checkpoint, 0, fold_norm=True)
    x = text["state"].to_numpy()[0]
    v = np.einsum("hpd,jd->hjp", maps.value, x / x.std(-1, keepdims=True)) + maps.value_bias[:, None]
    y = np.einsum("hdp,hjp->d", maps.output, v) / 4 + maps.output_bias
    assert_allclose(text["attention_out"][0], np.broadcast_to(y, (4, 6)), atol=1e-3)
