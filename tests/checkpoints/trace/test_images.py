"""Networks of timm: x' = x + gamma F(norm x) by their sums, their attention matrices, and what is refused."""

import warnings

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from numpy.testing import assert_allclose  # noqa: E402  (after the skip)

from ctrlattn import InputError, checkpoints  # noqa: E402

D, HEADS, DEPTH, PATCHES = 24, 3, 3, 16
IMAGE = np.random.default_rng(0).normal(size=(3, 32, 32)).astype(np.float32)


class Attention(torch.nn.Module):
    """Attention as timm writes it: fused, or in the open with a dropout that returns the matrix alone."""

    def __init__(self):
        super().__init__()
        self.num_heads, self.fused_attn = HEADS, True
        self.qkv, self.proj, self.attn_drop = (
            torch.nn.Linear(D, 3 * D), torch.nn.Linear(D, D), torch.nn.Dropout(0.1),
        )  # fmt: skip

    def forward(self, x):
        b, n, _ = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, HEADS, D // HEADS).permute(2, 0, 3, 1, 4).unbind(0)
        if self.fused_attn:
            y = torch.nn.functional.scaled_dot_product_attention(q, k, v)
        else:
            y = self.attn_drop((q @ k.mT * (D // HEADS) ** -0.5).softmax(-1)) @ v
        return self.proj(y.transpose(1, 2).reshape(b, n, D))


class CrossCovariance(Attention):
    """XCiT's: softmax(k^T q) over features, as many of them as there are tokens here."""

    def forward(self, x):
        b, n, _ = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, HEADS, D // HEADS).permute(2, 0, 3, 4, 1).unbind(0)
        a = self.attn_drop((torch.nn.functional.normalize(q, dim=-1) @ k.mT).softmax(-1))
        return self.proj((a @ v).permute(0, 3, 1, 2).reshape(b, n, D))


class Block(torch.nn.Module):
    def __init__(self, attention, scale):
        super().__init__()
        self.norm1, self.attn = torch.nn.LayerNorm(D), attention()
        self.norm2, self.mlp = torch.nn.LayerNorm(D), torch.nn.Sequential(torch.nn.Linear(D, D), torch.nn.GELU())
        self.gamma1, self.gamma2 = (
            (torch.nn.Parameter(torch.randn(D)), torch.nn.Parameter(torch.randn(D))) if scale else (1, 1)
        )

    def forward(self, x):
        x = x + self.gamma1 * self.attn(self.norm1(x))
        return x + self.gamma2 * self.mlp(self.norm2(x))


class VisionTransformer(torch.nn.Module):
    """A ViT of the form that timm gives it; `pretrained_cfg` is what every network of timm carries."""

    def __init__(self, attention=Attention, patch=8, *, scale=False):
        super().__init__()
        self.pretrained_cfg = {"architecture": "vit_tiny", "input_size": (3, 32, 32)}
        self.embed_dim, self.patch_embed = D, torch.nn.Conv2d(3, D, patch, patch)
        self.blocks = torch.nn.Sequential(*(Block(attention, scale) for _ in range(DEPTH)))
        self.head = torch.nn.Linear(D, 5)

    def forward(self, x):
        return self.head(self.blocks(self.patch_embed(x).flatten(2).mT).mean(1))


def like_timm(*args, **kwargs):
    torch.manual_seed(0)
    return VisionTransformer(*args, **kwargs).eval()


def sums_hold(checkpoint, image=IMAGE):
    recorded = checkpoints.tap(checkpoint, image)
    again = checkpoints.recompose(recorded, checkpoint)
    assert_allclose(again, recorded["state"][1:], atol=1e-5 * float(abs(recorded["state"]).max()))
    return recorded


@pytest.mark.parametrize("scale", [False, True])
def test_contributions_matrices_and_layer_scale(scale):
    model = like_timm(scale=scale)
    loaded = checkpoints.load(model)
    assert (loaded.name, loaded.family.name, loaded.width, loaded.heads) == ("vit_tiny", "timm", D, HEADS)
    recorded = sums_hold(loaded)
    terms = loaded.structure.calls[1].terms
    assert [(t.kind, t.path, t.norm, t.matrix) for t in terms] == [
        ("attention", "attn", "norm1", "attn.attn_drop"), ("mlp", "mlp", "norm2", ""),
    ]  # fmt: skip
    x = torch.as_tensor(recorded["state"].to_numpy()[1])[None]
    block = model.blocks[1]
    with torch.no_grad():
        F = block.gamma1 * block.attn(block.norm1(x))
        q, k, _ = block.attn.qkv(block.norm1(x)).reshape(1, PATCHES, 3, HEADS, -1).permute(2, 0, 3, 1, 4)
        matrix = (q @ k.mT * (D // HEADS) ** -0.5).softmax(-1)
    assert_allclose(recorded["attention_out"][1], F[0], atol=1e-5)
    assert_allclose(recorded["attention"][1], matrix[0], atol=1e-6)
    if scale:
        assert_allclose(terms[0].coefficient.value, block.gamma1.detach(), rtol=1e-4)
    assert block.attn.fused_attn is False  # load's own choice, as for a model of transformers
    assert checkpoints.load(model, attention="sdpa").model.network.blocks[1].attn.fused_attn is True


def test_profile_importance_and_drop():
    model = like_timm()
    loaded = checkpoints.load(model)
    profile = checkpoints.feedback_profile(loaded, IMAGE, parts=["feedback", "attention", "diversity", "sinks"])
    assert profile.sizes["token"] == PATCHES
    assert [str(t) for t in profile["text"].to_numpy()] == [str(i) for i in range(PATCHES)]
    assert checkpoints.importance(loaded, IMAGE[None]).sizes["layer"] == DEPTH
    smaller = checkpoints.tap(checkpoints.drop(loaded, attention=[1]), IMAGE)
    x = torch.as_tensor(smaller["state"].to_numpy()[1])[None]
    with torch.no_grad():
        assert_allclose(smaller["state"][2], (x + model.blocks[1].mlp(model.blocks[1].norm2(x)))[0], atol=1e-5)


def test_a_matrix_over_features_is_no_attention_matrix():
    """As many features in a head as there are tokens: the shape says nothing."""
    loaded = checkpoints.load(like_timm(CrossCovariance, 16))  # 4 tokens; 8 features in a head
    assert {t.matrix for call in loaded.structure.calls for t in call.terms} == {""}
    recorded = sums_hold(loaded)
    assert "attention" not in recorded
    many = checkpoints.load(like_timm(CrossCovariance, 8))  # 16 tokens and 8 features in a head
    assert {call.kinds for call in many.structure.calls} == {("mixer", "mlp")}
    same = like_timm(CrossCovariance, 8)
    same.pretrained_cfg = {"architecture": "square", "input_size": (3, 16, 32)}  # 8 tokens and 8 features
    square = checkpoints.load(same)
    assert {t.matrix for call in square.structure.calls for t in call.terms} == {""}
    sums_hold(square, IMAGE[:, :16])


def test_streams_with_features_in_front_are_refused():
    """Read with the columns as features, they gave a stream of the width of the image."""
    model = transformers.ConvNextModel(transformers.ConvNextConfig(hidden_sizes=[8, 12], depths=[2, 2], num_stages=2))
    with pytest.raises(InputError, match=r"hands on images \(batch, features, rows, columns\), .* features last"):
        checkpoints.load(model)


def test_what_cannot_be_read_or_written_is_told(tmp_path):
    unknown = like_timm()
    unknown.pretrained_cfg = {"architecture": "unknown"}
    with pytest.raises(InputError, match="VisionTransformer of timm does not say the size of its images"):
        checkpoints.load(unknown)
    with pytest.raises(InputError, match=r"a network of timm is written by timm: .* checkpoint\.model\.network"):
        checkpoints.save(checkpoints.load(like_timm()), tmp_path / "saved")
    with pytest.raises(InputError, match=r"no map of Block is known by name: give load\(source, family=Family"):
        checkpoints.value_output(checkpoints.load(like_timm()), 1)


SMALL = {"img_size": 32, "embed_dim": 48, "depth": 3, "num_heads": 3, "num_classes": 5}
REAL = {
    "vit_tiny_patch16_224": {}, "vit_small_patch14_dinov2": {}, "vit_small_patch16_dinov3": {},
    "deit_tiny_distilled_patch16_224": {}, "deit3_small_patch16_224": {}, "beit_base_patch16_224": {},
    "eva02_tiny_patch14_224": {}, "vit_base_patch16_siglip_224": {}, "vit_base_patch16_clip_224": {},
    "vit_relpos_small_patch16_224": {}, "vit_base_patch16_rope_reg1_gap_256": {},
}  # fmt: skip
SCALED = ("dinov2", "dinov3", "deit3", "beit", "relpos", "rope")


def timm_network(name, **options):
    with warnings.catch_warnings(action="ignore"):
        timm = pytest.importorskip("timm", reason="timm is not installed: it needs torchvision", exc_type=ImportError)
        torch.manual_seed(0)
        model = timm.create_model(name, **options).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    return model


@pytest.mark.parametrize("name", REAL)
def test_real_vision_transformers(name):
    loaded = checkpoints.load(timm_network(name, **SMALL, patch_size=8))
    recorded = sums_hold(loaded)
    for call in loaded.structure.calls:
        assert [(t.kind, t.path, t.matrix) for t in call.terms] == [
            ("attention", "attn", "attn.attn_drop"), ("mlp", "mlp", ""),
        ]  # fmt: skip
        scaled = any(word in name for word in SCALED)
        assert {t.coefficient.form for t in call.terms} == {"vector" if scaled else "number"}
    assert_allclose(recorded["attention"].sum("key"), 1, atol=1e-5)
    assert loaded.model.network.get_submodule("blocks.1.attn") is loaded.layers[1].attn


def test_real_networks_of_other_kinds():
    cross = checkpoints.load(timm_network("xcit_nano_12_p16_224", **SMALL, patch_size=8))
    assert "attention" not in sums_hold(cross)
    talking = checkpoints.load(timm_network("cait_xxs24_224", **SMALL, patch_size=8))  # heads mix behind the softmax
    assert "attention" not in sums_hold(talking)
    windows = checkpoints.load(timm_network("swin_tiny_patch4_window7_224", img_size=64, embed_dim=12))
    assert {call.kinds for call in windows.structure.calls} == {("attention", "mlp")}
    with pytest.raises(InputError, match="features last"):
        checkpoints.load(timm_network("convnext_atto"))
