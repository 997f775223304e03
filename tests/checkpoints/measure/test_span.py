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
        assert run.norm[k] == pytest.approx(float(end.norm() / h.norm()), rel=1e-6)
    before = entering(repeat(whole, layers=(1, 3), passes=2, **law), 5, ids)
    assert run.residual[2] == pytest.approx(float((F(before) - before).detach().norm() / before.norm()), rel=1e-5)


def test_all_eigenvalues_of_a_small_span_are_those_of_the_dense_jacobian(network, text):
    F, h = span_function(network(), (1, 3), text(1, 3)[0])
    J = torch.autograd.functional.jacobian(F, h).reshape(h.numel(), h.numel()).numpy()
    modes = span_modes(F, h, products=h.numel())
    dense = np.linalg.eigvals(J)
    assert len(modes.eigenvalues) > 50
    assert modes.size == len(dense) == 72
    for value, residual in zip(modes.eigenvalues, modes.residuals, strict=True):
        assert residual < 1e-2 * abs(value)
    outer = modes.eigenvalues[np.abs(modes.eigenvalues) > 1.5]
    assert all(np.abs(dense - value).min() < 1e-5 * abs(value) for value in outer)
    assert modes.eigenvalues[0].real == pytest.approx(dense.real.max(), rel=1e-5)


def test_a_few_products_show_the_outer_ones_alone():
    rng = np.random.default_rng(0)
    block = np.diag([*rng.uniform(-0.5, 0.5, 397), 3.0, 0, 0])
    block[-2:, -2:] = [[1.0, -4.0], [4.0, 1.0]]
    basis = np.linalg.qr(rng.standard_normal((400, 400)))[0]
    J = torch.tensor(basis @ block @ basis.T)
    modes = span_modes(lambda h: (J @ h.flatten()).reshape(h.shape), torch.zeros(20, 20).double(), products=30)
    np.testing.assert_allclose(modes.eigenvalues[:3], [3.0, 1 + 4j, 1 - 4j], rtol=1e-6)
    assert modes.residuals[0] < 1e-6


def test_an_invariant_space_ends_the_search():
    modes = span_modes(lambda h: 2 * h, torch.ones(3, 3).double())
    assert modes.eigenvalues.tolist() == [2.0]


def test_bad_input_is_one_clear_line(network, text):
    with pytest.raises(ValueError, match="layer must be one of"):
        span_function(network(), (2, 6), text(1)[0])
    with pytest.raises(ValueError, match="products must be a whole number"):
        span_modes(lambda h: h, torch.ones(2, 2), products=1)
    with pytest.raises(ValueError, match="finite stream"):
        span_modes(lambda h: h / 0, torch.ones(2, 2))
    with pytest.raises(ValueError, match="pass 2 of 9"):
        span_passes(lambda h: h**3, 1e60 * torch.ones(2, 2).double(), 9)
