"""What the work of this package takes on a GPU, or on any device that torch has: the same rows everywhere.

    python simulations/benchmarks/devices.py                   # the GPU; where there is none, a sentence and no file
    python simulations/benchmarks/devices.py --device cpu      # this processor, at the same sizes
    python simulations/benchmarks/devices.py --once            # on the cpu, small, one run each, for CI

Rows: a simulation; forward and backward of a controlled attention layer from 1,024 to 16,384 tokens, beside the same of
scaled_dot_product_attention alone; a training step of a small network beside the same step without control; a tap
beside a plain pass; a layer's Jacobian times a vector, beside a pass of the layer. Both are called in turn in one
process, and the clock stops when the device has done its work. Attention and training are in bfloat16 on a GPU and
in float32 on a processor, all else in float32. The name of the device is recorded.
"""

import sys
import time

from machine import describe
from paired import alternate, median_ms, parser_of, write

LAW = "pidformer-ema"


def row(label, first, second, place, small: bool) -> dict[str, object]:
    """Medians in turn, and the highest memory of the first where the device counts it."""
    import torch

    def finished(call):
        def run():
            call()
            if place.type == "cuda":
                torch.cuda.synchronize(place)

        return run

    ours, theirs = alternate(finished(first), finished(second), 1 if small else 7, clock=time.perf_counter)
    a, b = median_ms(ours), median_ms(theirs)
    result: dict[str, object] = {"what": label, "own (ms)": a, "beside it (ms)": b, "ratio": float(f"{a / b:.3g}")}
    if place.type == "cuda":
        torch.cuda.reset_peak_memory_stats(place)
        finished(first)()
        result["memory (MiB)"] = round(torch.cuda.max_memory_allocated(place) / 2**20)
    return result


def simulations(place, small: bool):
    """50 layers of softmax attention, every signal recorded, beside the predictor alone as often."""
    import torch

    from ctrlattn import PID, Loop, simulate
    from ctrlattn.predictors import SoftmaxAttention

    n, layers = (32, 3) if small else (1024, 50)
    x = torch.randn(n, 64, generator=torch.Generator().manual_seed(0)).to(place)
    loop = Loop(SoftmaxAttention(), controller=PID(0.3, 0.05, 0.1))

    def predictions():
        for _ in range(layers):
            loop.predictor(x)

    label = f"simulate, {n} tokens, {layers} layers, PID, beside the predictions alone"
    yield label, lambda: simulate(loop, x, layers), predictions


def attentions(place, dtype, small: bool):
    """A layer of 3 heads with 64 features, under control, from its input back to it."""
    import torch

    from ctrlattn.nn import ControlledAttention, configuration

    torch.manual_seed(0)
    options = configuration(LAW)
    options.pop("feedback")
    module = ControlledAttention(192, 3, **options).to(place, dtype)
    for n in (64,) if small else (1024, 4096, 16384):
        x, back = (torch.randn(1, n, 192, device=place, dtype=dtype) for _ in range(2))
        x.requires_grad_()
        q, k, v = (torch.randn(1, 3, n, 64, device=place, dtype=dtype, requires_grad=True) for _ in range(3))
        upon = torch.randn(1, 3, n, 64, device=place, dtype=dtype)
        with torch.no_grad():
            _, state = module(x)

        def own(x=x, state=state, back=back):
            torch.autograd.grad(module(x, state)[0], [x, *module.parameters()], back, allow_unused=True)

        def alone(q=q, k=k, v=v, upon=upon):
            torch.autograd.grad(torch.nn.functional.scaled_dot_product_attention(q, k, v), [q, k, v], upon)

        yield f"controlled attention, forward and backward, {n} tokens, beside SDPA alone", own, alone


def trainings(place, dtype, small: bool):
    """A step of AdamW on six blocks, under control and without it."""
    import torch

    from ctrlattn.nn import ControlledLM, configuration

    batch, n, depth = (2, 16, 2) if small else (8, 256, 6)
    ids = torch.randint(256, (batch, n), generator=torch.Generator().manual_seed(0)).to(place)

    def step_of(law: str):
        torch.manual_seed(0)
        sizes = {"dim": 192, "depth": depth, "heads": 3, "hidden": 768}
        model = ControlledLM(256, **sizes, **configuration(law)).to(place, dtype)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)

        def step():
            optimizer.zero_grad()
            scores = model(ids)[:, :-1].flatten(0, 1).float()
            torch.nn.functional.cross_entropy(scores, ids[:, 1:].flatten()).backward()
            optimizer.step()

        return step

    yield f"training step, {depth} blocks, {batch} x {n} tokens, beside softmax", step_of(LAW), step_of("softmax")


def watched(place, small: bool):
    """A network of the size of SmolLM2-135M: a tap beside a pass, J v beside a pass of the layer."""
    import numpy as np
    import torch
    import transformers

    from ctrlattn import checkpoints

    torch.manual_seed(0)
    width, layers, heads = (32, 2, 4) if small else (576, 30, 9)
    sizes = {"hidden_size": width, "num_hidden_layers": layers, "num_attention_heads": heads}
    config = transformers.LlamaConfig(vocab_size=200, intermediate_size=2 * width, **sizes)
    network = checkpoints.load(transformers.LlamaModel(config).to(place))
    n = 16 if small else 256
    ids = list(range(n % 200)) + [0] * (n - n % 200)

    @torch.no_grad()
    def plain():
        network.model(torch.tensor([ids], device=place))

    yield f"tap, {n} tokens, {layers} layers, beside a plain pass", lambda: checkpoints.tap(network, ids), plain
    function, h = checkpoints.layer_functions(network, ids, layers=(layers // 2,))[0]
    jacobian = checkpoints.layer_jacobian(network, layers // 2, ids)
    v = np.random.default_rng(0).standard_normal(n * width)

    @torch.no_grad()
    def layer():
        function(h)

    yield f"J v of a layer, {n} tokens, beside a pass of the layer", lambda: jacobian @ v, layer


def measured(place, small: bool) -> list[dict[str, object]]:
    import torch

    dtype = torch.bfloat16 if place.type == "cuda" else torch.float32
    several = (
        simulations(place, small),
        attentions(place, dtype, small),
        trainings(place, dtype, small),
        watched(place, small),
    )
    return [row(*case, place, small) for cases in several for case in cases]


def main() -> None:
    import torch

    from ctrlattn import devices
    from ctrlattn.errors import InputError

    parser = parser_of(__doc__)
    parser.add_argument("--device", help="of torch, such as cuda:1; default: the GPU, with --once the cpu")
    arguments = parser.parse_args()
    name = arguments.device or ("cpu" if arguments.once else "cuda")
    if arguments.device is None and name == "cuda" and not torch.cuda.is_available():
        print("There is no GPU here, so nothing was measured: --device cpu measures this processor.")
        return
    try:
        place = devices.device(name)
    except InputError as error:
        sys.exit(f"devices.py: {error}")
    machine = describe()
    device_name = torch.cuda.get_device_name(place) if place.type == "cuda" else machine["processor"]
    write(arguments.out, "devices", {"device": f"{place} ({device_name})", **machine}, measured(place, arguments.once))


if __name__ == "__main__":
    main()
