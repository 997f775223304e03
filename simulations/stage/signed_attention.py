"""x <- x + g A(norm(x)) norm(x), x <- x + MLP(norm(x)): the ordinary small transformer with a number g in each layer.

With fixed projections, W_O W_V = I by heads, nothing but g has a sign. With learned ones g W_O is one factor, and its
sign is a convention.
"""

import math

import torch
from torch.nn.functional import gelu, scaled_dot_product_attention

from stage.read_alone import Ordinary


class SignedBlock(torch.nn.Module):
    """One layer; `sign` is g. A strict one reads the tokens before alone, and nothing at the first."""

    def __init__(self, dim, heads, *, fixed, strict, sign, learned):
        super().__init__()
        self.heads, self.strict = heads, strict
        self.norm1 = torch.nn.LayerNorm(dim, elementwise_affine=not fixed)
        self.norm2 = torch.nn.LayerNorm(dim)
        self.in_proj = torch.nn.Linear(dim, 2 * dim)
        self.value = torch.nn.Identity() if fixed else torch.nn.Linear(dim, dim)
        self.out_proj = torch.nn.Identity() if fixed else torch.nn.Linear(dim, dim)
        self.linear1, self.linear2 = torch.nn.Linear(dim, 4 * dim), torch.nn.Linear(4 * dim, dim)
        gain = torch.tensor(float(sign))
        if learned:
            self.sign = torch.nn.Parameter(gain)
        else:
            self.register_buffer("sign", gain)

    def forward(self, x, src_mask=None, is_causal=True):
        x = x + self.sign * self.attention(self.norm1(x))
        return x + self.linear2(gelu(self.linear1(self.norm2(x))))

    def attention(self, x):
        """softmax(q k^T / sqrt(D)) v over the tokens before, with or without the token itself."""
        parts = (*self.in_proj(x).chunk(2, -1), self.value(x))
        q, k, v = (t.unflatten(-1, (self.heads, -1)).transpose(-2, -3) for t in parts)
        if not self.strict:
            y = scaled_dot_product_attention(q, k, v, is_causal=True)
        else:
            y = scaled_dot_product_attention(q[..., 1:, :], k[..., :-1, :], v[..., :-1, :], is_causal=True)
            y = torch.cat([torch.zeros_like(v[..., :1, :]), y], -2)
        return self.out_proj(y.transpose(-2, -3).flatten(-2))


class SignedTransformer(Ordinary):
    """The ordinary model with signed layers; the stream has unit features, so that neither part of x + g y is lost."""

    def __init__(self, vocabulary, dim, layers, heads, context, **block):
        super().__init__(vocabulary, dim, layers, heads, context)
        self.layers = torch.nn.ModuleList(SignedBlock(dim, heads, **block) for _ in range(layers))
        for name, weight in self.named_parameters():
            if weight.ndim == 2:
                fan = 1.0 if name in ("tokens", "positions") else weight.shape[-1] ** -0.5
                last = name.endswith(("out_proj.weight", "linear2.weight"))
                torch.nn.init.normal_(weight, std=fan / math.sqrt(2 * layers) if last else fan)

    def forward(self, ids):
        return super().forward(ids) / math.sqrt(self.tokens.shape[-1])
