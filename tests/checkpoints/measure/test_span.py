"""A span as a map is what the network computes there; its eigenvalues are those of the dense Jacobian."""

import numpy as np
import pytest
import torch

from ctrlattn import PID
from ctrlattn.checkpoints import repeat, span_function, span_modes, span_passes
from ctrlattn.checkpoints.network.watch import watch_calls


def entering(checkpoint, layer, ids):
    with watch_calls(checkpoint.layers, [layer]) as calls, torch.no_grad():
        checkpoint.model(input_ids=torch.as_tensor(ids[None]), use_cache=False)
    return next(iter(calls[layer].values()))[0]


def test_a_span_leads_from_the_stream_before_it_to_the_stream_behind_it(network, text, causal):
    whole, ids = network(causal), text(1)[0]
    F, h = span_function(whole, (1, 3), ids)
    torch.testing.assert_close(h, entering(whole, 1, ids))
    torch.testing.assert_close(F(h), entering(whole, 3, ids), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(F(h[None])[0], F(h))


def test_its_passes_are_those_of_the_repeated_network(network, text, causal):
    whole, ids, law = network(causal), text(1)[0], {"controller": PID(0.3, 0.1), "recall": 0.4}
    F, h = span_function(whole, (1, 3), ids)
    run = span_passes(F, h, 3, **law)
    for k in (1, 2, 3):
        end = entering(repeat(whole, layers=(1, 3), passes=k, **law), 1 + 2 * k, ids)
        assert run.norm[k] == pytest.approx(float(np.median(sizes(end) / sizes(h))), rel=1e-6)
    before = entering(repeat(whole, layers=(1, 3), passes=2, **law), 5, ids)
    assert run.residual[2] == pytest.approx(np.median(sizes(F(before) - before) / sizes(before)), rel=1e-5)


def sizes(stream):
    return stream.detach().norm(dim=-1).numpy()


def test_one_token_of_massive_activation_does_not_hide_how_the_others_move():
    h = torch.ones(5, 4, dtype=torch.float64)
    h[0] *= 1e6
    run = span_passes(lambda h: torch.cat([h[:1], 3 * h[1:]]), h, 2)  # the first token stays, four grow
    assert run.norm.tolist() == pytest.approx([1, 3, 9])
    assert run.residual.tolist() == pytest.approx([2, 2])


@pytest.mark.slow
def test_eigenvalues_are_the_rightmost_and_the_largest_of_the_dense_jacobian(network, text):
    F, h = span_function(network("gpt2"), (1, 3), text(1, 2)[0])
    dense = np.linalg.eigvals(torch.autograd.functional.jacobian(F, h).reshape(h.numel(), h.numel()).numpy())
    modes = span_modes(F, h, count=6)
    assert modes.size == len(dense) == 48
    assert (np.diff(modes.eigenvalues.real) <= 0).all()
    for value in modes.eigenvalues:
        assert np.abs(dense - value).min() < 1e-4 * abs(value)
    for outer in (dense[np.argsort(-dense.real)[:6]], dense[np.argsort(-np.abs(dense))[:6]]):
        assert all(np.abs(modes.eigenvalues - value).min() < 1e-4 * abs(value) for value in outer)
    distances = np.abs(modes.eigenvalues[:, None] - modes.eigenvalues) + 9 * np.eye(len(modes.eigenvalues))
    assert distances.min() > 1e-4  # none is there twice


def test_outer_eigenvalues_of_a_large_map_are_seen_without_forming_it():
    rng = np.random.default_rng(0)
    block = np.diag([*rng.uniform(-0.5, 0.5, 397), 3.0, 0, 0])
    block[-2:, -2:] = [[1.0, -4.0], [4.0, 1.0]]
    basis = np.linalg.qr(rng.standard_normal((400, 400)))[0]
    J = torch.tensor(basis @ block @ basis.T)
    modes = span_modes(lambda h: (J @ h.flatten()).reshape(h.shape), torch.zeros(20, 20).double(), count=3)
    np.testing.assert_allclose(modes.eigenvalues, [3.0, 1 - 4j, 1 + 4j], rtol=1e-4)
    assert modes.residuals.max() < 1e-3


def test_bad_input_is_one_clear_line(network, text):
    for span, says in (((2, 6), r"0 <= a < b <= 4, got \(2, 6\)"), ((2, 2), "the span is empty"), ((3, 1), "a < b")):
        with pytest.raises(ValueError, match=says):
            span_function(network(), span, text(1)[0])
    with pytest.raises(ValueError, match="count must be a whole number"):
        span_modes(lambda h: h, torch.ones(2, 2), count=0)
    with pytest.raises(ValueError, match="finite"):
        span_modes(lambda h: h, torch.full((2, 2), float("nan")))
    with pytest.raises(ValueError, match="pass 2 of 9"):
        span_passes(lambda h: h**3, 1e60 * torch.ones(2, 2).double(), 9)
