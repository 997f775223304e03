"""Sixteen eigenvalues of one pass of four layers at 64 tokens, against scipy's eigs on the same operator.

    python simulations/benchmarks/looped.py --gguf FILE   # layers 10 to 13 of SmolLM2, alternating runs, one thread
    python simulations/benchmarks/looped.py               # the same with random weights of that size
    python simulations/benchmarks/looped.py --once        # small, one run each, for CI

Both are asked for the largest moduli of the same float32 Jacobian. scipy's eigs takes `jacobian_operator`, one product
at a time by forward mode. Ours takes them from a graph that is made once. "difference" is how far the two sets of
eigenvalues are apart, and the residuals |J v - lambda v|/|lambda| are taken from the same operator. The cost of a
product is in units of a forward pass of the span.
"""

import json
import sys
from pathlib import Path

import numpy as np
from machine import describe
from paired import alternate, in_threads, median_ms, parser_of, write

K, LIMIT, PRODUCT = 16, 3, 2.2
TOL, NORM_TOL = 1e-5, 5e-7  # of eigs as a share of |lambda|, of ours as a share of |J|, which is larger
TEXT = (
    "The central bank raised its main interest rate on Thursday, saying that inflation had proved more persistent than "
    "expected and that wages were rising at a pace that was not consistent with its target. Markets fell after the "
    "decision, and the currency gained against the dollar. Analysts said that a further increase in the autumn was "
    "likely unless the labour market cooled in the coming months."
)


def span_of(small: bool, gguf: str):
    """(F, h): four layers of a Llama network as a map of the stream, and the stream before them."""
    import torch
    import transformers

    torch.manual_seed(0)
    tokens, first, last = (8, 0, 2) if small else (64, 10, 14)
    if gguf:
        path = Path(gguf)
        model = transformers.AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name).model
        words = transformers.AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
        ids = words(TEXT, return_tensors="pt").input_ids[:, :tokens]
    else:
        width = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4, "num_key_value_heads": 2}
        if not small:
            width = {"hidden_size": 576, "intermediate_size": 1536, "num_attention_heads": 9, "num_key_value_heads": 3}
        config = transformers.LlamaConfig(vocab_size=100, num_hidden_layers=last, initializer_range=0.08, **width)
        model, ids = transformers.LlamaModel(config), torch.randint(0, 100, (1, tokens))
    model = model.float().eval().requires_grad_(False)
    with torch.no_grad():
        h = model(ids, output_hidden_states=True).hidden_states[first]
    positions = torch.arange(ids.shape[1])[None]
    rotations = model.rotary_emb(h, positions)
    mask = torch.full((ids.shape[1],) * 2, -1e9).triu(1)[None, None]

    def f(x):
        for layer in model.layers[first:last]:
            x = layer(x, attention_mask=mask, position_embeddings=rotations)
            x = x[0] if isinstance(x, tuple) else x
        return x

    return f, h.clone()


def by_eigs(f, h, k: int):
    """The textbook: Arnoldi iteration of scipy with one product at a time."""
    from scipy.sparse.linalg import eigs

    from ctrlattn import jacobian_operator

    start = np.random.default_rng(0).standard_normal(h.numel()).astype(np.float32)
    return eigs(jacobian_operator(f, h), k=k, which="LM", tol=TOL, v0=start)


def worker(small: bool, gguf: str) -> list[dict[str, object]]:
    """Rows of both ways, and of single products."""
    import torch

    from ctrlattn import jacobian_operator, looped
    from ctrlattn.linear.jacobian import jacobian_products

    f, h = span_of(small, gguf)
    k, times = (4, 1) if small else (K, 2)
    name = f"{Path(gguf).stem}, layers 10 to 13" if gguf else "random weights, four layers"
    name = f"small {name}" if small else f"{name}, {h.shape[1]} tokens"
    results: dict[str, object] = {}

    def ours() -> None:
        results["ours"] = looped.spectrum(f, h, k, tol=NORM_TOL, block=1)

    def other() -> None:
        results["other"] = by_eigs(f, h, k)

    seconds, against = alternate(ours, other, times)
    spectrum, (values, vectors) = results["ours"], results["other"]
    operator = jacobian_operator(f, h)
    difference = max(float(np.min(np.abs(spectrum.eigenvalues - v))) for v in values)
    rows = [
        {
            "what": f"{k} eigenvalues, {name}",
            "ours (ms)": median_ms(seconds),
            "other (ms)": median_ms(against),
            "ratio": float(f"{np.median(against) / np.median(seconds):.3g}"),
            "asked": "" if small else LIMIT,
            "difference": f"{difference:.0e}",
            "residual": f"{residual(operator, spectrum.eigenvalues, spectrum.vectors):.0e}",
            "residual of eigs": f"{residual(operator, values, vectors):.0e}",
        }
    ]
    if difference > 1e-2 * abs(values).max():
        sys.exit(f"the two ways differ by {difference}")
    products = jacobian_products(f, h)

    def plain() -> None:
        with torch.no_grad():
            f(h)

    for block in (1, 4):
        v = np.random.default_rng(1).standard_normal((h.numel(), block))
        forward, product_seconds = alternate(plain, lambda v=v: products(v), 2 if small else 9)
        cost = np.median(product_seconds) / np.median(forward) / block
        rows.append({
            "what": f"a product, {block} at once, in forward passes, {name}",
            "ratio": float(f"{cost:.3g}"), "asked": "" if small else f"at most {PRODUCT}",
        })  # fmt: skip
    return rows


def residual(operator, values, vectors) -> float:
    """max |J v - lambda v|/|lambda|."""
    return max(
        float(np.linalg.norm(operator @ v.real + 1j * (operator @ v.imag) - value * v) / abs(value))
        for value, v in zip(values, vectors.T, strict=True)
    )


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--gguf", default="", help="a file of SmolLM2-135M; random weights of its size without")
    arguments = parser.parse_args()
    if arguments.worker:
        print(json.dumps(worker(arguments.once, arguments.gguf)))
        return
    options = ["--once"] if arguments.once else []
    options += ["--gguf", arguments.gguf] if arguments.gguf else []
    rows = in_threads(__file__, 1, *options)
    write(arguments.out, "looped", describe(), rows)


if __name__ == "__main__":
    main()
