"""Singular values of layers, as many as the profile has, against dense decompositions of their Jacobians."""

import numpy as np
import pytest
import torch
import transformers
from cases import every_case
from numpy.testing import assert_allclose
from scipy.sparse.linalg import aslinearoperator

from ctrlattn import checkpoints
from ctrlattn.stability.nonnormal.krylov import singular_triplets

IDS = [3, 1, 4, 1, 5]
# Of a layer of SmolLM2-135M on four tokens: its third and fourth lie closer together than rounding to three digits.
LEADING = [2.2122, 2.1471, 2.0468, 2.0426, 2.0127, 1.9541]


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 31}
    model = transformers.LlamaModel(transformers.LlamaConfig(**sizes, intermediate_size=24)).double()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.2 * torch.randn_like(weight))
    return checkpoints.load(model)


@every_case("seed", range(8))
def test_crowded_singular_values_are_told_apart_within_the_steps_of_a_profile(seed):
    sigma = np.concatenate([LEADING, np.linspace(1.94, 0.3, 294)])
    operator = aslinearoperator(np.diag(sigma))
    found = singular_triplets(operator, 4, steps=checkpoints.Effort().lanczos, seed=seed)
    assert_allclose(found.values, LEADING[:4], rtol=1e-6)
    # Half of the steps take the fourth for the third, and one beyond for the fourth.
    few = singular_triplets(operator, 4, steps=checkpoints.Effort().lanczos // 2, seed=seed)
    assert few.errors[3] > 1e-3 * few.values[3]


def test_all_singular_values_are_those_of_the_dense_jacobian(network):
    profile = checkpoints.feedback_profile(network, IDS, parts=["gain"])
    for layer in range(2):
        J = checkpoints.layer_jacobian(network, layer, IDS) @ np.eye(80)
        assert_allclose(profile["sigma"][layer], np.linalg.svd(J)[1][:4], rtol=1e-5)
    assert "comment" not in profile["sigma"].attrs


def test_a_singular_value_that_is_not_settled_is_named(network):
    effort = checkpoints.Effort(singular=2, lanczos=2)
    comment = checkpoints.feedback_profile(network, IDS, parts=["gain"], effort=effort)["sigma"].attrs["comment"]
    assert "layer 0: after 2 Lanczos steps these singular values are not settled: 0, 1" in comment
    assert "layer 1: after 2" in comment
