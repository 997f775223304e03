"""The vision transformer has the names and counts of timm, and computes what a DeiT computes."""

import numpy.testing as npt
import pytest

torch = pytest.importorskip("torch")

from ctrlattn import PID  # noqa: E402
from ctrlattn.nn import configuration, deit_base_patch16_224, deit_small_patch16_224, deit_tiny_patch16_224  # noqa: E402

PRINTED = PID(0.8, 0.5, 0.05)


def deit_names(dim, depth=12, classes=1000):
    """Names and shapes of timm's VisionTransformer, written down from its documented layout."""
    shapes = {
        "cls_token": (1, 1, dim),
        "pos_embed": (1, 14 * 14 + 1, dim),
        "patch_embed.proj.weight": (dim, 3, 16, 16),
        "patch_embed.proj.bias": (dim,),
        "norm.weight": (dim,),
        "norm.bias": (dim,),
        "head.weight": (classes, dim),
        "head.bias": (classes,),
    }
    for k in range(depth):
        for name, rows, columns in (
            ("attn.qkv", 3 * dim, dim),
            ("attn.proj", dim, dim),
            ("mlp.fc1", 4 * dim, dim),
            ("mlp.fc2", dim, 4 * dim),
        ):
            shapes |= {f"blocks.{k}.{name}.weight": (rows, columns), f"blocks.{k}.{name}.bias": (rows,)}
        for norm in ("norm1", "norm2"):
            shapes |= {f"blocks.{k}.{norm}.weight": (dim,), f"blocks.{k}.{norm}.bias": (dim,)}
    return shapes


@pytest.mark.parametrize(
    ("build", "dim", "parameters"),
    [
        (deit_tiny_patch16_224, 192, 5_717_416),
        (deit_small_patch16_224, 384, 22_050_664),
        (deit_base_patch16_224, 768, 86_567_656),
    ],
)
def test_the_network_has_the_names_and_the_count_of_timm(build, dim, parameters):
    with torch.device("meta"):
        model = build(**configuration("pidformer-ema"))
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    assert shapes == deit_names(dim)
    assert sum(p.numel() for p in model.parameters()) == parameters


def test_a_deit_state_dict_loads_and_computes_what_deit_computes(vit):
    # A DeiT written with torch's own encoder layer, which knows nothing of this package.
    layer = torch.nn.TransformerEncoderLayer(
        12, 3, 48, dropout=0.0, activation="gelu", layer_norm_eps=1e-6, batch_first=True, norm_first=True
    ).double()
    model = vit(depth=1).double()
    state = model.state_dict()
    names = {
        "self_attn.in_proj_weight": "attn.qkv.weight",
        "self_attn.in_proj_bias": "attn.qkv.bias",
        "self_attn.out_proj.weight": "attn.proj.weight",
        "self_attn.out_proj.bias": "attn.proj.bias",
        "linear1.weight": "mlp.fc1.weight",
        "linear1.bias": "mlp.fc1.bias",
        "linear2.weight": "mlp.fc2.weight",
        "linear2.bias": "mlp.fc2.bias",
    }
    for theirs, value in layer.state_dict().items():
        state[f"blocks.0.{names.get(theirs, theirs)}"] = torch.randn_like(value) * 0.2
    model.load_state_dict(state)
    layer.load_state_dict({t: state[f"blocks.0.{names.get(t, t)}"] for t in layer.state_dict()})
    x = model.embed(torch.randn(2, 1, 8, 8, dtype=torch.float64))
    npt.assert_allclose(model.blocks[0](x)[0].detach(), layer.train()(x).detach(), rtol=0, atol=1e-12)


def test_control_changes_later_layers_only(vit):
    images = torch.randn(2, 1, 8, 8)
    plain, controlled = (list(vit(controller=c).states(images)) for c in (None, PRINTED))
    npt.assert_array_equal(plain[1].detach(), controlled[1].detach())
    assert (plain[2] - controlled[2]).abs().max() > 1e-4


@pytest.mark.slow
def test_the_compiled_network_is_the_network(vit):
    model, images = vit(controller=PRINTED), torch.randn(2, 1, 8, 8)
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    npt.assert_allclose(compiled(images).detach(), model(images).detach(), rtol=0, atol=1e-5)
