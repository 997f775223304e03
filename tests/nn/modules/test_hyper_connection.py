"""Hyper-connections: no number of layers amplifies the streams, and at first their mean is the residual network."""

import math

import numpy as np
import numpy.testing as npt
import pytest

torch = pytest.importorskip("torch")

from ctrlattn.nn import HyperConnection  # noqa: E402  (after the skip)


def connections(depth, streams=4, steps=201):
    """Connections moved far away from where they start."""
    torch.manual_seed(0)
    made = [HyperConnection(streams, steps=steps).double() for _ in range(depth)]
    with torch.no_grad():
        for connection in made:
            connection.mixing.normal_()
            connection.reading.fill_(-math.log(streams - 1))  # as it starts, without the rounding of float32
    return made


def test_sixty_layers_have_norm_one():
    made = connections(60)
    product = torch.linalg.multi_dot([connection.matrix().detach() for connection in made])
    assert abs(torch.linalg.matrix_norm(product, 2).item() - 1) < 1e-9
    for axis in (0, 1):
        npt.assert_allclose(product.sum(axis), np.ones(4), rtol=0, atol=1e-9)
    free = torch.linalg.multi_dot([connection.mixing.detach().exp() for connection in made])
    assert torch.linalg.matrix_norm(free, 2) > 1e20


def test_streams_that_nothing_is_written_to_are_mixed_and_never_grow():
    x = torch.randn(3, 5, 4, 7, dtype=torch.float64)
    sizes = [torch.linalg.vector_norm(x).item()]
    for connection in connections(60):
        x = connection(x, torch.zeros_like).detach()
        sizes.append(torch.linalg.vector_norm(x).item())
    assert max(sizes) <= sizes[0] * (1 + 1e-9)


def test_at_first_the_mean_of_the_streams_is_the_residual_network():
    # Whatever H is: its columns sum to 1.
    torch.manual_seed(1)
    layers = [torch.nn.Linear(7, 7).double() for _ in range(6)]
    x = torch.randn(3, 4, 7, dtype=torch.float64)
    mean = x.mean(-2)
    for connection, layer in zip(connections(6), layers, strict=True):
        x, mean = connection(x, layer), mean + layer(mean)
    npt.assert_allclose(x.mean(-2).detach(), mean.detach(), rtol=0, atol=1e-9)
    assert (x[:, 0] - x[:, 1]).abs().max() > 1e-3


@pytest.mark.slow
def test_reading_writing_and_mixing_have_the_gradient_of_finite_differences():
    connection, x = connections(1)[0], torch.randn(2, 4, 3, dtype=torch.float64)
    names = [name for name, _ in connection.named_parameters()]
    assert sorted(names) == ["mixing", "reading", "writing"]

    def output(*parameters):
        return torch.func.functional_call(connection, dict(zip(names, parameters, strict=True)), (x, torch.tanh))

    assert torch.autograd.gradcheck(output, tuple(connection.parameters()))


def test_what_does_not_fit_is_said():
    for streams in (1, True, 2.0):
        with pytest.raises(ValueError, match="streams must be a whole number of at least 2"):
            HyperConnection(streams)
    with pytest.raises(ValueError, match=r"4 streams are mixed, got shape \(2, 3, 7\)"):
        HyperConnection(4)(torch.zeros(2, 3, 7), torch.tanh)
