"""A loop and a chain of layers, simulated by ctrlattn and drawn as blocks with `control.interconnect`.

    python simulations/benchmarks/blocks.py            # medians of alternating runs, one thread
    python simulations/benchmarks/blocks.py --once     # small, one run each, for CI

The loop is three blocks: predictor, controller with its comparator, layer. The chain is drawn twice: as the diagram of
a layer shows it, predictor, comparator and norm, three blocks a layer; and with one block a layer, which costs
python-control least. Each block computes with the functions of this package. Both sides must give the same numbers.
Making the drawing is not timed. Of the chain it is also counted how often blocks are evaluated for one signal, where
once each is enough.
"""

import numpy as np
from paired import alternate, command, median_ms

TOLERANCE = 1e-9
LIMITS = {"loop": 10, "chain": 50}


def attention(features: int, rng: np.random.Generator):
    """Causal softmax attention with random projections."""
    from ctrlattn import SoftmaxAttention

    wq, wk, wv = (rng.standard_normal((features, features)) / features**0.5 for _ in range(3))
    return SoftmaxAttention(wq, wk, wv)


def the_loop(features: int):
    """RMS-normalised attention under the published PID law."""
    from ctrlattn import PID, Loop, rms_norm

    predictor = attention(features, np.random.default_rng(0))
    return Loop(predictor, skip=1.0, feedback=-0.5, controller=PID(0.3, 0.1, 0.05), normalizer=rms_norm)


def drawn_loop(loop, shape: tuple[int, int]):
    """Predictor, controller and layer as three blocks of n d signals each."""
    import control

    size, pid = shape[0] * shape[1], loop.controller
    names = {key: [f"{key}[{i}]" for i in range(size)] for key in "rxyu"}

    def law(x, w):  # memories: the integral, the last error
        e = w[:size] - w[size:]
        return pid.kp * e + pid.ki * (x[:size] + e) + pid.kd * (e - x[size:])

    def remember(x, w):
        e = w[:size] - w[size:]
        return np.concatenate([x[:size] + e, e])

    def layer(x, w):
        state = loop.skip * x + loop.feedback * w[:size] + w[size:]
        return loop.normalizer(state.reshape(shape)).ravel()

    common = {"dt": 1}
    predictor = control.nlsys(
        None, lambda t, x, w, p: loop.predictor(w.reshape(shape)).ravel(), inputs=names["x"], outputs=names["y"],
        name="predictor", **common,
    )  # fmt: skip
    controller = control.nlsys(
        lambda t, x, w, p: remember(x, w), lambda t, x, w, p: law(x, w), inputs=[*names["r"], *names["x"]],
        outputs=names["u"], states=2 * size, name="controller", **common,
    )  # fmt: skip
    layers = control.nlsys(
        lambda t, x, w, p: layer(x, w), lambda t, x, w, p: x, inputs=[*names["y"], *names["u"]], outputs=names["x"],
        states=size, name="layer", **common,
    )  # fmt: skip
    return control.interconnect([layers, controller, predictor], inputs=names["r"], outputs=names["x"])


def against_a_drawn_loop(tokens: int, features: int, layers: int, times: int) -> dict[str, object]:
    """One controlled loop over its layers."""
    import control

    from ctrlattn import simulate

    loop, shape = the_loop(features), (tokens, features)
    start = loop.normalizer(np.random.default_rng(1).standard_normal(shape))
    system, flat = drawn_loop(loop, shape), start.ravel()
    inputs = np.repeat(flat[:, None], layers + 1, axis=1)
    state = np.concatenate([flat, np.zeros_like(flat), np.zeros_like(flat)])  # e_0 = 0: nothing acts at layer 0

    runs = {}

    def ours():
        runs["ours"] = simulate(loop, start, layers).state

    def theirs():  # a minute or two: what it finds is kept, not computed again
        runs["theirs"] = control.input_output_response(system, np.arange(layers + 1), inputs, initial_state=state)

    seconds = alternate(ours, theirs, times)
    difference = largest(runs["theirs"].outputs.T.reshape(-1, *shape), runs["ours"])
    label = f"a controlled loop, {tokens} tokens x {features} features, {layers} layers, as 3 blocks"
    return row(label, *seconds, LIMITS["loop"], difference)


def drawn_chain(loops, shape: tuple[int, int], each: int, evaluated: list[int]):
    """Static blocks in series, `each` a layer (1 or 3); each evaluation is noted."""
    import control

    blocks_of = {1: layer_as_one, 3: layer_as_three}[each]
    blocks = [block for i, loop in enumerate(loops) for block in blocks_of(i, loop, shape, evaluated)]
    size = shape[0] * shape[1]
    return control.interconnect(blocks, inputs=signal("x0", size), outputs=signal(f"x{len(loops)}", size))


def layer_as_one(i: int, loop, shape: tuple[int, int], evaluated: list[int]):
    """x_i -> x_{i+1}."""

    def layer(x):
        return loop.normalizer(loop.skip * x + loop.feedback * loop.predictor(x))

    return [static(f"layer {i}", layer, [f"x{i}"], f"x{i + 1}", shape, evaluated)]


def layer_as_three(i: int, loop, shape: tuple[int, int], evaluated: list[int]):
    """x_i -> y_i;  (x_i, y_i) -> z_i;  z_i -> x_{i+1}."""

    def comparator(x, y):
        return loop.skip * x + loop.feedback * y

    return [
        static(f"predictor {i}", loop.predictor, [f"x{i}"], f"y{i}", shape, evaluated),
        static(f"comparator {i}", comparator, [f"x{i}", f"y{i}"], f"z{i}", shape, evaluated),
        static(f"norm {i}", loop.normalizer, [f"z{i}"], f"x{i + 1}", shape, evaluated),
    ]


def static(name: str, function, inputs: list[str], output: str, shape: tuple[int, int], evaluated: list[int]):
    """A block without state, of (n, d) signals that are wired number by number."""
    import control

    size = shape[0] * shape[1]

    def through(t, x, w, p):
        evaluated.append(1)
        return function(*w.reshape(len(inputs), *shape)).ravel()

    wires = [wire for source in inputs for wire in signal(source, size)]
    return control.nlsys(None, through, inputs=wires, outputs=signal(output, size), name=name, dt=1)


def signal(name: str, size: int) -> list[str]:
    return [f"{name}[{k}]" for k in range(size)]


def against_a_drawn_chain(
    depth: int, tokens: int, features: int, signals: int, each: int, times: int
) -> dict[str, object]:
    """Layers that differ, in series: each time step of the drawing is one signal through all of them."""
    import control

    from ctrlattn import Loop, rms_norm, simulate

    rng, shape = np.random.default_rng(0), (tokens, features)
    loops = [Loop(attention(features, rng), skip=1.0, feedback=1.0, normalizer=rms_norm) for _ in range(depth)]
    x = rng.standard_normal((signals, *shape))
    evaluated: list[int] = []
    system, flat = drawn_chain(loops, shape, each, evaluated), x.reshape(signals, -1).T

    def ours():
        return [simulate(loops, x0, depth, record="last").state for x0 in x]

    def at_once():
        return simulate(loops, x, depth, record="last").state

    def theirs():
        return control.input_output_response(system, np.arange(signals), flat).outputs

    evaluated.clear()
    expected = theirs().T.reshape(-1, *shape)
    difference = max(largest(states, expected) for states in (np.stack(ours()), at_once()))
    evaluations = f"{depth * each} against {len(evaluated) / signals:.0f}"
    label = (
        f"a chain of {depth} layers as {depth * each} blocks, {tokens} tokens x {features} features, {signals} signals"
    )
    # Five milliseconds, timed by one call behind a second of dense products, would be twice as many.
    calls = 1 if times == 1 else 20
    one_by_one, blocks = alternate(ours, theirs, times, calls=calls)
    result = row(label, one_by_one, blocks, LIMITS["chain"], difference)
    batch = alternate(at_once, ours, times, calls=calls)[0]
    ratio = float(f"{median_ms(blocks) / median_ms(batch):.3g}")
    return {
        **result,
        "blocks evaluated a signal": evaluations,
        "ours, one batch (ms)": median_ms(batch),
        "its ratio": ratio,
    }


def largest(actual: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference, relative to the largest number; too much of it ends the run."""
    difference = float(np.max(np.abs(actual - expected)) / np.max(np.abs(expected)))
    if not difference <= TOLERANCE:
        raise SystemExit(f"the two simulations differ by {difference:.1e}, allowed {TOLERANCE:.0e}")
    return difference


def row(label, ours, theirs, limit, difference) -> dict[str, object]:
    a, b = median_ms(ours), median_ms(theirs)
    return {"what": label, "ours (ms)": a, "interconnect (ms)": b, "ratio": float(f"{b / a:.3g}"), "asked": limit,
            "difference": f"{difference:.0e}"}  # fmt: skip


def worker(small: bool) -> list[dict[str, object]]:
    rows = [against_a_drawn_loop(*((6, 4, 10) if small else (64, 32, 100)), times=1)]
    depth, signals = (4, 2) if small else (16, 5)
    # One drawing of 16 layers of the loop's 64 x 32 signals would need a connection matrix of 8 GiB.
    for each, shapes in {3: [(8, 4), (16, 8)], 1: [(8, 4), (16, 8), (16, 16), (32, 16)]}.items():
        for tokens, features in [(4, 2)] if small else shapes:
            # 48 blocks of 128 signals take ten seconds and more.
            times = 1 if small else 2 if each == 3 else 5
            rows.append(against_a_drawn_chain(depth, tokens, features, signals, each, times))
    return [{"threads": 1, **result} for result in rows]


if __name__ == "__main__":
    command(__file__, __doc__, worker)
