"""The gradients through the chosen responses against those of torch through everything."""

import pytest

torch = pytest.importorskip("torch")

from ctrlattn.observers import Dictionary, Settings, Training  # noqa: E402  (after the skip)
from ctrlattn.observers.sparse_step import set_gradients  # noqa: E402


def made(width, features, k, seed):
    """A dictionary in float64 whose parameters are all away from their start, and examples."""
    generator = torch.Generator().manual_seed(seed)
    dictionary = Dictionary(width, features, k=k, seed=seed).double()
    with torch.no_grad():
        for parameter in dictionary.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    return dictionary, torch.randn(1 + seed % 7, width, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("seed", range(30))
def test_they_are_the_gradients_of_the_mean_square(seed):
    width, features, k = 1 + seed % 5, 2 + seed % 11, 1 + seed % 2
    dictionary, x = made(width, features, k, seed)
    rest = x - dictionary.combine(dictionary.codes(dictionary.response(x))) - dictionary.bias
    wanted = torch.autograd.grad(rest.square().mean(), list(dictionary.parameters()))
    step = set_gradients(dictionary, x, dictionary.response(x).detach())
    for parameter, gradient in zip(dictionary.parameters(), wanted, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-11, atol=1e-14)
    torch.testing.assert_close(step.rest, rest.detach(), rtol=1e-12, atol=1e-14)


def test_a_feature_that_no_example_chooses_has_no_gradient():
    dictionary, x = made(4, 50, 1, 6)
    codes = set_gradients(dictionary, x, dictionary.response(x).detach()).codes
    absent = torch.ones(50, dtype=torch.bool)
    absent[codes.features.ravel()] = False
    assert int(absent.sum()) >= 50 - len(x)
    for parameter in (dictionary.decoder, dictionary.encoder, dictionary.threshold):
        assert not parameter.grad[absent].any()


def test_a_chosen_response_below_zero_has_no_gradient():
    dictionary, x = made(3, 4, 4, 5)
    with torch.no_grad():
        dictionary.threshold -= 100
    set_gradients(dictionary, x, dictionary.response(x).detach())
    assert not dictionary.encoder.grad.any()
    assert not dictionary.decoder.grad.any()
    torch.testing.assert_close(dictionary.bias.grad, -2 * (x - dictionary.bias).mean(0).detach() / 3)


def test_a_training_with_dead_features_follows_the_loss_as_it_is_written_down():
    settings = Settings(features=24, k=3, blocks=1, batch=64, passes=1, dead_after=1)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(64, 8, generator=generator)
    ours, plain = Training(8, settings), Training(8, settings)
    for training in (ours, plain):
        training.idle[:5] = 10
    ours._step(x)
    own = plain.dictionary
    response = own.response(x)
    rest = x - own.combine(own.codes(response)) - own.bias
    dead = torch.arange(5)
    among = response[:, dead].topk(4)
    explained = torch.zeros_like(x) + torch.einsum("mk,mkd->md", among.values.relu(), own.decoder[among.indices])
    loss = rest.square().mean()
    loss = loss + (rest.detach() - explained).square().mean() / rest.detach().square().mean() / 32
    loss.backward()
    plain._keep_unit_gradient()
    for name, parameter in own.named_parameters():
        torch.testing.assert_close(
            dict(ours.dictionary.named_parameters())[name].grad, parameter.grad, rtol=1e-4, atol=1e-7, msg=name
        )
