"""The trained loop: held parts, Jacobians against differences, the chain against simulate, what is refused."""

import json

import numpy as np
import numpy.testing as npt
import pytest

torch = pytest.importorskip("torch")

from ctrlattn import FixedAttention, Loop, presets, simulate  # noqa: E402  (after the skip)
from ctrlattn.linear import mode  # noqa: E402
from ctrlattn.nn import ControlledViT, configuration  # noqa: E402
from ctrlattn.nn.experiment import training  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")  # torch's own, on first use


@pytest.fixture(scope="module", autouse=True)
def _undrawn():
    """In this file pictures are drawn: one test reads the size of theirs."""


@pytest.fixture(params=["softmax", "pidformer-printed", "pidformer-ema"])
def network(request, scene):
    """(blocks after the first, v_0, states, a random push of the stream)."""
    torch.manual_seed(0)
    sizes = {"image": 4, "patch": 2, "channels": 1, "classes": 3, "dim": 8, "depth": 4, "heads": 2}
    model = ControlledViT(**sizes, **configuration(request.param)).double().requires_grad_(False)
    model.initialize(8**-0.5, depth_scaled=False)
    images = torch.randn(3, 1, 4, 4, dtype=torch.float64)
    s, reference = scene.first(model, images)
    blocks = list(model.blocks)[1:]
    change = scene.direction_of(s, torch.Generator().manual_seed(1))
    return model, images, blocks, reference, scene.run(blocks, reference, s), change


def test_the_states_are_those_of_the_network(scene, network):
    model, images, _, _, states, _ = network
    npt.assert_array_equal(torch.stack([s[0] for s in states]), torch.stack(list(model.states(images))[1:]))


def test_a_block_with_everything_at_its_place_is_the_block(scene, network):
    # The held form, with parts held at the very state at which they are asked, computes what the block does.
    _, _, blocks, reference, states, _ = network
    for block, s, following in zip(blocks, states, states[1:], strict=False):
        for held in (("weights",), ("control",), ("mlp",), ("weights", "control", "mlp")):
            npt.assert_allclose(scene.step(block, reference, s, s, held), following, rtol=0, atol=1e-12)


def test_a_held_part_does_not_move(scene, network):
    # The MLP is held: what it adds is a constant, so that without it the difference of two states is the same.
    _, _, blocks, reference, states, change = network
    block, s = blocks[0], states[0]
    moved = scene.step(block, reference, s + change, s, ("mlp",))[0] - scene.step(block, reference, s, s, ("mlp",))[0]
    block.mlp = torch.nn.Module()
    block.mlp.forward = torch.zeros_like
    alone = scene.step(block, reference, s + change)[0] - scene.step(block, reference, s)[0]
    npt.assert_allclose(moved, alone, rtol=0, atol=1e-12)


def test_the_jacobians_are_differences_and_need_the_memory(scene, network):
    _, _, blocks, reference, states, change = network
    found = scene.linear_run(blocks, reference, states, change)[-1]
    h = 1e-6
    ends = [scene.run(blocks, reference, states[0] + sign * h * change)[-1] for sign in (1, -1)]
    npt.assert_allclose(found, (ends[0] - ends[1]) / (2 * h), rtol=0, atol=1e-7)
    forgetful = scene.linear_run(blocks, reference, states, change, memory=False)[-1]
    distance = float((found[0] - forgetful[0]).norm() / found[0].norm())
    assert distance > 0.01 if len(states[0]) > 1 else distance == 0


@pytest.mark.parametrize("name", ["softmax", "neutreno", "pidformer-printed", "pidformer-ema"])
def test_the_chain_is_the_loop_and_its_modes(scene, name):
    # A push of v_1 runs as the difference of two simulations whose reference is not pushed.
    torch.manual_seed(0)
    blocks = list(ControlledViT(image=4, patch=2, channels=1, dim=8, depth=3, heads=1, **configuration(name)).blocks)
    matrix = torch.softmax(torch.randn(5, 5, dtype=torch.float64), -1)
    change = torch.randn(1, 5, 1, 8, dtype=torch.float64)
    ours = scene.chain(blocks, [matrix[None, None]] * 6, change)
    a, vectors = np.linalg.eig(matrix.numpy())
    k = int(np.argmin(abs(a)))  # one mode, real or complex: dv = Re(vector z)
    system = mode(presets.get(name), complex(a[k]))
    dv = vectors[:, k]
    start = np.array([1.0, 0.0]) if system.noutputs == 2 else np.array([1.0])
    state = np.zeros(system.nstates)
    state[: len(start)] = start
    # The memory at layer 1: an integral of 0, and past errors e_0, which the push does not reach.
    found = scene.chain(blocks, [matrix[None, None]] * 6, torch.as_tensor(dv.real)[None, :, None, None])
    for pushed in found:
        z = complex(*state[: len(start)]) if len(start) == 2 else state[0]
        npt.assert_allclose(pushed.flatten().numpy(), (dv * z).real, rtol=0, atol=1e-12)
        state = system.A @ state
    loop = Loop(FixedAttention(matrix.numpy()), skip=0.0, feedback=1.0)
    if name == "softmax":
        expected = simulate(loop, change[0, :, 0].numpy(), 5).state
        npt.assert_allclose(torch.stack(ours)[:, 0, :, 0], expected, rtol=0, atol=1e-13)


def test_an_interval_is_students(scene):
    over = scene.interval([1.0, 3.0])
    assert [over["mean"], over["low"], over["high"]] == pytest.approx([2.0, -10.7062, 14.7062], abs=1e-4)


def test_weights_that_are_not_there_are_said(scene, tmp_path):
    with pytest.raises(ValueError, match=r"no seed with trained digits networks of all of softmax, .* ctrlattn train"):
        scene.main(tmp_path / "out", weights=tmp_path)


def test_it_trains_measures_and_takes_the_weights_again(scene, tmp_path, monkeypatch, request):
    pytest.importorskip("sklearn")
    settings = {"depth": 3, "dim": 6, "patch": 4, "epochs": 1, "batch": 256}
    tiny = scene.Size(images=3, directions=1, seeds=2, settings=settings)
    monkeypatch.setattr(scene, "SMALL", tiny)
    monkeypatch.setattr(
        training, "score", lambda model, data, seed: {"loss": 1.0}
    )  # attacks are no matter of the scene
    known, measure = {}, scene.measure

    def once(model, images, size, seed):
        """What the same weights give under the same law is measured once."""
        weights = tuple(p.detach().double().numpy().tobytes() for p in (*model.parameters(), images))
        key = (*weights, repr(model.blocks[0].attn.tracking), seed)
        if key not in known:
            known[key] = measure(model, images, size, seed)
        return known[key]

    monkeypatch.setattr(scene, "measure", once)
    numbers = scene.main(tmp_path)
    assert len(known) == 2 * 2 * 4
    assert json.loads((tmp_path / "trained_loop.json").read_text(encoding="utf-8"))["verdict"] == numbers["verdict"]
    assert (tmp_path / "trained_loop.png").stat().st_size > 10_000
    request.getfixturevalue("undrawn")
    again = scene.main(tmp_path / "again", weights=tmp_path / "trained_loop_runs")
    assert again["networks"] == numbers["networks"]
    for arm, whens in numbers["networks"].items():
        assert whens["trained"][0] != whens["untrained"][0], arm
        error = whens["trained"][0]["error"]
        assert error["1e-06"]["p95"] < 1e-3
        assert error["1e-05"]["median"] > 3 * error["1e-06"]["median"]  # second order: a decade a decade
