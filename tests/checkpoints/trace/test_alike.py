"""Layers alike are followed once: the structure is what following every layer gives, whatever sets one layer apart."""

from functools import partial

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from ctrlattn import checkpoints  # noqa: E402  (after the skip)
from ctrlattn.checkpoints.trace import follow, run  # noqa: E402
from ctrlattn.checkpoints.trace.alike import first_alike, signatures_of  # noqa: E402

FEW = {"hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 24}
TEXT = {"vocab_size": 40, "max_position_embeddings": 64, "pad_token_id": 0, **FEW}
GROUPED = {**TEXT, "num_key_value_heads": 2, "head_dim": 4}
WINDOWS = {"sliding_window": 4, "layer_types": ["sliding_attention", "full_attention"] * 2}
PER_LAYER = {
    "global_head_dim": 4,
    "hidden_size_per_layer_input": 4,
    "vocab_size_per_layer_input": 40,
    "num_kv_shared_layers": 0,
}
BART = {"vocab_size": 40, "d_model": 16, "decoder_layers": 4, "decoder_attention_heads": 4, "decoder_ffn_dim": 24}
# Type -> (what makes it, layers that are followed).
NETWORKS = {
    "llama": (lambda t: t.LlamaForCausalLM(t.LlamaConfig(**GROUPED)), 1),
    "granite": (lambda t: t.GraniteModel(t.GraniteConfig(**TEXT, residual_multiplier=0.22)), 1),
    "gpt2": (lambda t: t.GPT2Model(t.GPT2Config(vocab_size=40, n_embd=16, n_head=4, n_layer=4)), 1),
    "bert": (lambda t: t.BertModel(t.BertConfig(**TEXT)), 1),
    "falcon": (lambda t: t.FalconModel(t.FalconConfig(vocab_size=40, **FEW)), 1),
    "gemma3": (lambda t: t.Gemma3TextModel(t.Gemma3TextConfig(**GROUPED, **WINDOWS)), 1),
    "doge": (lambda t: t.DogeModel(t.DogeConfig(**TEXT)), 1),
    "gemma4": (lambda t: t.Gemma4TextModel(t.Gemma4TextConfig(**GROUPED, **WINDOWS, **PER_LAYER)), 1),
    "bart": (lambda t: t.BartForCausalLM(t.BartConfig(**BART)).model.decoder, 1),
    "beit": (lambda t: t.BeitModel(t.BeitConfig(**FEW, image_size=8, patch_size=4, layer_scale_init_value=0.5)), 2),
    "mamba": (lambda t: t.MambaModel(t.MambaConfig(vocab_size=40, hidden_size=16, num_hidden_layers=4)), 1),
}


def made(name):
    torch.manual_seed(0)
    model = NETWORKS[name][0](transformers).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model


class Layer(torch.nn.Module):
    """x + c f(x) with c from settings, from the number of the layer, from a weight, or switched by it."""

    def __init__(self, number, factor=1.0, *, scale=None, by_number=False, again=False):
        super().__init__()
        self.number, self.factor, self.by_number, self.again = number, factor, by_number, again
        self.bend, self.f = torch.nn.Tanh(), torch.nn.Linear(6, 6)
        self.register_parameter("scale", None if scale is None else torch.nn.Parameter(torch.tensor(scale)))

    def forward(self, x):
        f = self.f(self.bend(x))
        if self.again and self.number > 1:
            f = f + self.f(x.sin())
        c = self.factor / (self.number + 1) if self.by_number else self.factor
        return x + c * f * (1.0 if self.scale is None else self.scale)


class Stack(torch.nn.Module):
    main_input_name = "input_ids"

    def __init__(self, layers):
        super().__init__()
        torch.manual_seed(0)
        self.words, self.blocks = torch.nn.Embedding(9, 6), torch.nn.ModuleList(layers)

    def forward(self, input_ids):
        x = self.words(input_ids)
        for block in self.blocks:
            x = block(x)
        return x


IDS = {"input_ids": torch.tensor([[1, 2, 3, 4, 5, 6, 7, 8]])}
STACKS = {
    "one factor": lambda: Stack([Layer(i, 0.5) for i in range(4)]),
    "factors": lambda: Stack([Layer(i, 0.5**i) for i in range(4)]),
    "a weight": lambda: Stack([Layer(i, scale=1.0 if i < 2 else 0.5) for i in range(4)]),
    "a vector": lambda: Stack([Layer(i, scale=[1.0 + i, 2.0, 0.5, -1.0, 3.0, 0.1]) for i in range(4)]),
    "a vector, ones at first": lambda: Stack([Layer(i, scale=[1.0, 1.0 + i, 1.0, 1.0, 1.0, 1.0]) for i in range(4)]),
    "numbers": lambda: Stack([Layer(i, by_number=True) for i in range(4)]),
    "numbers, nothing added": lambda: silent(Stack([Layer(i, by_number=True) for i in range(4)])),
    "numbers, little added": lambda: silent(Stack([Layer(i, by_number=True) for i in range(4)]), 1e-12),
    "a module twice": lambda: Stack([Layer(i, again=True) for i in range(4)]),
    "hooks": lambda: halved(Stack([Layer(i) for i in range(4)])),
}


def silent(stack, factor=0.0):
    with torch.no_grad():
        for weight in stack.blocks.parameters():
            weight *= factor
    return stack


def halved(stack):
    """What the last layer adds is halved outside of the module that returns it."""
    last = stack.blocks[-1]
    last.forward = lambda x: x + 0.5 * last.f(last.bend(x))
    return stack


def both(monkeypatch, model, inputs=None):
    """(Structure, number of followed layers, structure where every layer is followed)."""
    opened, plain = [], follow._Watch._open
    with monkeypatch.context() as patch:
        patch.setattr(follow._Watch, "_open", lambda self, *given: (opened.append(0), plain(self, *given)))
        one = checkpoints.trace(model, inputs)
    with monkeypatch.context() as patch:
        patch.setattr(run, "first_alike", lambda signatures, by: {path: path for path in signatures})
        return one, len(opened), checkpoints.trace(model, inputs)


def assert_same(a, b):
    assert (a.layers, a.width, a.streams, a.causal) == (b.layers, b.width, b.streams, b.causal)
    for mine, other in zip(a.calls, b.calls, strict=True):
        assert (mine.layer, mine.kinds, mine.rounding) == (other.layer, other.kinds, other.rounding)
        names = [[(s.norm, [(t.path, t.module, t.norm, t.reads, t.matrix, t.layout) for t in s.terms])
                  for s in call.steps] for call in (mine, other)]  # fmt: skip
        assert names[0] == names[1]
        factors = [[c for s in k.steps for c in (s.skip, *(t.coefficient for t in s.terms))] for k in (mine, other)]
        for c, d in zip(*factors, strict=True):
            assert c.form == d.form
            if c.value is not None:
                torch.testing.assert_close(torch.as_tensor(c.value), torch.as_tensor(d.value), rtol=1e-9, atol=0)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_is_what_following_every_layer_gives(monkeypatch, name):
    one, count, every = both(monkeypatch, made(name))
    assert_same(one, every)
    assert count == NETWORKS[name][1]
    assert max(call.error for call in one.calls) < (1e-6 if name == "mamba" else 1e-14)  # it adds up in float32


@pytest.mark.parametrize("name", STACKS)
def test_what_sets_a_layer_apart_is_seen(monkeypatch, name):
    one, count, every = both(monkeypatch, STACKS[name]().double().eval(), IDS)
    assert_same(one, every)
    once = ("one factor", "a weight", "a vector", "a vector, ones at first")
    assert count == (1 if name in once else max(count, 2))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mixtral", "olmo3", "gpt_oss", "qwen3_next", "jamba", "deepseek_v3"])
def test_types_with_experts_and_mixers_are_what_following_every_layer_gives(monkeypatch, of_type, name):
    one, _, every = both(monkeypatch, of_type(name).model)
    assert_same(one, every)


class Doubled(Layer):
    """A layer that adds more by what stands outside of it."""

    where = 2

    def forward(self, x):
        return x + (2.0 if self.number == self.where else 1.0) * self.f(self.bend(x))


def test_a_sum_that_does_not_hold_is_followed(monkeypatch):
    structure, count, every = both(monkeypatch, Stack([Doubled(i) for i in range(4)]).double().eval(), IDS)
    assert_same(structure, every)
    assert [call.terms[0].coefficient.value for call in structure.calls] == pytest.approx([1, 1, 2, 1], rel=1e-12)
    assert count == 2


class Normed(Layer):
    """A layer whose number says whether its norm runs: the sum is the same, and what a contribution reads is not."""

    def __init__(self, number):
        super().__init__(number)
        self.norm = torch.nn.LayerNorm(6)

    def forward(self, x):
        return x + self.f(self.norm(x) if self.number < 2 else x)


def test_a_norm_that_some_layers_leave_out_is_seen(monkeypatch):
    structure, count, every = both(monkeypatch, Stack([Normed(i) for i in range(4)]).double().eval(), IDS)
    assert_same(structure, every)
    norms = [call.terms[0].norm for call in structure.calls]
    assert norms[0] == norms[1] != norms[2] == norms[3]
    assert count > 1


def test_partial_functions_are_told_by_what_they_hold():
    stack = Stack([Layer(i, partial(max, key=abs)) for i in range(2)] + [Layer(2, partial(max, key=len))])
    same = first_alike(signatures_of(stack, [f"blocks.{i}" for i in range(3)]))
    assert list(same.values()) == ["blocks.0", "blocks.0", "blocks.2"]


class Wired(torch.nn.Module):
    """Two contributions, the second of which reads by the number of the layer: the sum of both ways is the same."""

    def __init__(self, number, way):
        super().__init__()
        self.number, self.way = number, way
        self.first, self.second, self.norm = torch.nn.Linear(6, 6), torch.nn.Linear(6, 6), torch.nn.LayerNorm(6)

    def forward(self, x):
        between = x + self.first(x)
        normed = self.norm(x if self.way == "beside" and self.number > 1 else between)
        return between + self.second(between if self.way == "past its norm" and self.number > 1 else normed)


@pytest.mark.parametrize("way", ["beside", "past its norm"])
def test_what_a_contribution_reads_is_seen_where_the_sum_does_not_show_it(monkeypatch, way):
    structure, count, every = both(monkeypatch, Stack([Wired(i, way) for i in range(4)]).double().eval(), IDS)
    assert_same(structure, every)
    reads = [(call.terms[1].reads, call.terms[1].norm) for call in structure.calls]
    assert reads[0] == reads[1] == (1, "norm")
    assert reads[2] == reads[3] == ((0, "norm") if way == "beside" else (1, ""))
    assert count == 3


def test_layers_of_other_widths_and_numbers_of_heads_are_followed_once(monkeypatch):
    model = made("llama")
    generator = torch.Generator().manual_seed(0)
    for i, layer in enumerate(model.model.layers):
        for name, size in [("gate_proj", (16, 20 + i)), ("up_proj", (16, 20 + i)), ("down_proj", (20 + i, 16))]:
            linear = torch.nn.Linear(*size, bias=False).double()
            torch.nn.init.normal_(linear.weight, generator=generator)
            setattr(layer.mlp, name, linear)
    attention = model.model.layers[2].self_attn
    attention.num_key_value_groups = 1
    attention.k_proj, attention.v_proj = (torch.nn.Linear(16, 16, bias=False).double() for _ in range(2))
    structure, count, every = both(monkeypatch, model.eval())
    assert_same(structure, every)
    assert count == 1


@pytest.mark.parametrize(
    "change",
    [
        lambda layer: setattr(layer, "factor", True),
        lambda layer: setattr(layer, "factor", 1),  # of another type
        lambda layer: setattr(layer, "more", [1.0, "a"]),
        lambda layer: setattr(layer, "f", torch.nn.Linear(6, 6, bias=False)),
        lambda layer: setattr(layer, "f", torch.nn.Linear(6, 6).half()),
        lambda layer: setattr(layer, "f", torch.nn.Sequential(torch.nn.Linear(6, 6))),
        lambda layer: layer.register_buffer("mask", torch.ones(2)),
        lambda layer: layer.f.register_forward_hook(lambda *given: None),
        lambda layer: layer.f.register_forward_pre_hook(lambda *given: None),
        lambda layer: setattr(layer, "table", {}),
        lambda layer: setattr(layer, "factor", partial(max, 1, key=abs)),
    ],
)
def test_each_switch_type_and_hook_counts(change):
    stack = Stack([Layer(i) for i in range(3)])
    paths = [f"blocks.{i}" for i in range(3)]
    assert list(first_alike(signatures_of(stack, paths)).values()) == ["blocks.0"] * 3
    change(stack.blocks[1])
    assert list(first_alike(signatures_of(stack, paths)).values()) == ["blocks.0", "blocks.1", "blocks.0"]


@pytest.mark.parametrize(
    "change",
    [lambda layer: setattr(layer, "factor", 0.25), lambda layer: setattr(layer, "f", torch.nn.Linear(6, 3))],
)
def test_numbers_and_sizes_are_left_to_the_sum(change):
    stack = Stack([Layer(i) for i in range(3)])
    change(stack.blocks[1])
    assert set(first_alike(signatures_of(stack, [f"blocks.{i}" for i in range(3)])).values()) == {"blocks.0"}


class Faint(Layer):
    """A layer whose stream is lost in what it adds to it, and with it the factor of the stream."""

    def forward(self, x):
        return self.scale * x + 1e20 * self.f(x)


def test_a_factor_that_the_sum_does_not_show_is_followed(monkeypatch):
    stack = Stack([Faint(i, scale=0.5**i) for i in range(3)]).double().eval()
    structure, count, every = both(monkeypatch, stack, IDS)
    assert_same(structure, every)
    assert [call.steps[0].skip.value for call in structure.calls] == pytest.approx([1, 0.5, 0.25], rel=1e-12)
    assert count == 3


class Attention(torch.nn.Module):
    """A softmax over tokens, a mean that says its weights, or one that does not: what `way` is, no module shows."""

    def __init__(self, way):
        super().__init__()
        self.way, self.values = way, torch.nn.Linear(6, 6)

    def forward(self, x):
        if self.way == "mean":  # no softmax, and no matrix
            return self.values(x.cumsum(1)), None
        n = x.shape[1]
        scores = torch.zeros(1, 1, n, n, dtype=x.dtype) if self.way == "far" else (x @ x.mT)[:, None]
        weights = scores.masked_fill(torch.ones(n, n).triu(1).bool(), -torch.inf).softmax(-1)
        if self.way == "scores":
            return self.values((weights @ x[:, None])[:, 0]), 2 * weights
        return self.values((weights @ x[:, None])[:, 0]), weights


class Attending(torch.nn.Module):
    def __init__(self, way, *, after=1.0):
        super().__init__()
        self.norm, self.attn, self.after = torch.nn.LayerNorm(6), Attention(way), after

    def forward(self, x):
        return x + self.after * self.attn(self.norm(x))[0]


@pytest.mark.parametrize(
    ("ways", "count"),
    [
        (("near", "far", "near", "far"), 1),
        (("near", "mean", "near", "mean"), 3),
        (("near", "mean", "mean", "mean"), 2),  # of more than a quarter one is followed, at the price of another pass
        (("near", "scores", "near", "scores"), 3),
        (("mean", "near", "mean", "near"), 3),
    ],
)
def test_another_kind_of_attention_is_seen_by_its_matrix(monkeypatch, ways, count):
    structure, seen, every = both(monkeypatch, Stack([Attending(way) for way in ways]).double().eval(), IDS)
    assert_same(structure, every)
    assert [call.kinds[0] for call in structure.calls] == ["mixer" if way == "mean" else "attention" for way in ways]
    assert seen == count


class Switched(torch.nn.Module):
    """What it is given, or half of it."""

    def __init__(self, on):
        super().__init__()
        self.on = on

    def forward(self, x):
        return 0.5 * x if self.on else x


class Experts(torch.nn.Module):
    def __init__(self, number):
        super().__init__()
        self.bend, self.f, self.number = torch.nn.Tanh(), torch.nn.Linear(6, 6), number

    def forward(self, x):
        for _ in range(self.number):
            x = self.bend(x)
        return self.f(x)


class Routed(torch.nn.Module):
    """Experts of which several run, a norm behind them, and a switch on what is added."""

    def __init__(self, number, *, on=False):
        super().__init__()
        self.mlp, self.norm, self.switch = Experts(number), torch.nn.LayerNorm(6), Switched(on)

    def forward(self, x):
        return x + self.switch(self.norm(self.mlp(x)))


def test_how_often_experts_run_sets_no_layer_apart(monkeypatch):
    structure, count, every = both(monkeypatch, Stack([Routed(i) for i in (1, 2, 1)]).double().eval(), IDS)
    assert_same(structure, every)
    assert count == 1


def test_a_switch_of_what_only_scales_counts(monkeypatch):
    stack = Stack([Routed(1, on=on) for on in (False, True, True)]).double().eval()
    structure, count, every = both(monkeypatch, stack, IDS)
    assert_same(structure, every)
    assert [call.terms[0].coefficient.value for call in structure.calls] == [1, 0.5, 0.5]
    assert count == 2
