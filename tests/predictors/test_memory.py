"""`read` and the associative memory against their formula, and where there is nothing to read."""

import math

import numpy as np
import numpy.testing as npt
import pytest
from cases import every_case

from ctrlattn import AssociativeMemory, BilateralFilter, InputError, SoftmaxAttention, read
from ctrlattn.arrays import like, to_numpy

N, D = 6, 4


def draws(*shape, seed=0):
    return np.random.default_rng((seed, *shape)).standard_normal(shape)


def as_kind(xp, x, dtype="float64"):
    return like(x, xp.zeros(1, dtype=getattr(xp, dtype)))


def literal_read(query, keys, values, temperature, sink):
    """softmax(q K^T / T) V, one key after another; the null key adds to the denominator alone."""
    powers = [math.exp(float(query @ key) / temperature) for key in keys]
    total = math.fsum(powers) + (0.0 if sink is None else math.exp(sink / temperature))
    return sum(p / total * value for p, value in zip(powers, values, strict=True))


@every_case("sink", [None, -1.0, 0.0, 2.0])
@every_case("temperature", [0.3, 1.0, 5.0])
def test_read_is_its_formula(xp, sink, temperature):
    query, keys, values = draws(3, D), draws(5, D), draws(5, 2)
    y = read(*(as_kind(xp, a) for a in (query, keys, values)), temperature=temperature, sink=sink)
    expected = [literal_read(q, keys, values, temperature, sink) for q in query]
    npt.assert_allclose(to_numpy(y), expected, rtol=1e-12)


@every_case("sink", [None, 0.5])
def test_one_query_is_a_vector_and_gives_a_vector(xp, sink):
    query, keys, values = (as_kind(xp, a) for a in (draws(D), draws(5, D), draws(5, 2)))
    y = read(query, keys, values, sink=sink)
    assert tuple(y.shape) == (2,)
    npt.assert_array_equal(to_numpy(y), to_numpy(read(query[None], keys, values, sink=sink)[0]))


def test_one_query_reads_a_batch_of_memories(xp):
    query, keys, values = (as_kind(xp, a) for a in (draws(D), draws(2, 3, 5, D), draws(2, 3, 5, 2)))
    y = read(query, keys, values, sink=0.5)
    assert tuple(y.shape) == (2, 3, 2)
    npt.assert_allclose(to_numpy(y[1, 2]), to_numpy(read(query, keys[1, 2], values[1, 2], sink=0.5)), rtol=1e-13)


def test_a_high_sink_silences_and_a_low_one_changes_nothing(xp):
    query, keys, values = (as_kind(xp, a) for a in (draws(3, D), draws(5, D), draws(5, 2)))
    npt.assert_array_equal(to_numpy(read(query, keys, values, sink=1e4)), np.zeros((3, 2)))
    npt.assert_allclose(to_numpy(read(query, keys, values, sink=-1e4)), to_numpy(read(query, keys, values)), rtol=1e-13)


def test_a_cold_read_finds_the_nearest_key_and_a_hot_one_the_mean():
    query, keys, values = draws(D), draws(5, D), draws(5, 2)
    npt.assert_allclose(read(query, keys, values, temperature=1e-3), values[np.argmax(keys @ query)], atol=1e-12)
    npt.assert_allclose(read(query, keys, values, temperature=1e12), values.mean(0), rtol=1e-9)


@every_case("seed", range(4))
def test_read_with_keys_as_values_never_raises_the_hopfield_energy(seed):
    # Ramsauer et al., equation 2: E(q) = -T logsumexp(K q / T) + |q|^2 / 2
    keys, q, temperature = draws(6, D, seed=seed), draws(D, seed=seed), 0.5

    def energy(q):
        return -temperature * np.logaddexp.reduce(keys @ q / temperature) + q @ q / 2

    for _ in range(20):
        after = read(q, keys, keys, temperature=temperature)
        assert energy(after) <= energy(q) + 1e-12
        q = after


@pytest.mark.parametrize("temperature", [np.float64(0.5), np.array(0.5)])
def test_a_numpy_number_does_not_change_the_dtype(temperature):
    ones = np.ones((2, 2), np.float32)
    assert read(ones, ones, ones, temperature=temperature, sink=np.float64(0.1)).dtype == np.float32
    assert SoftmaxAttention(temperature=temperature)(ones).dtype == np.float32
    assert BilateralFilter(temperature, spatial_bandwidth=temperature)(ones).dtype == np.float32
    assert AssociativeMemory(ones, ones, temperature=temperature, sink=temperature)(ones).dtype == np.float32


@every_case(
    "arguments, options, message",
    [
        ((draws(2), draws(5, D), draws(5, 2)), {}, r"4 features has as many, got \(2,\)"),
        ((np.array(1.0), draws(5, D), draws(5, 2)), {}, r"4 features has as many, got \(\)"),
        ((draws(D), draws(5, D), draws(4, 2)), {}, r"must share n >= 1, got \(5, 4\) and \(4, 2\)"),
        ((draws(D), draws(0, D), draws(0, 2)), {}, "must share n >= 1"),
        ((draws(D), draws(D), draws(D)), {}, "must share n >= 1"),
        ((draws(D), draws(5, D), draws(5, 2)), {"temperature": 0.0}, "temperature must be positive"),
        ((draws(D), draws(5, D), draws(5, 2)), {"temperature": -1}, "temperature must be positive"),
        ((draws(D), draws(5, D), draws(5, 2)), {"temperature": math.inf}, "temperature must be finite"),
        ((draws(D), draws(5, D), draws(5, 2)), {"sink": math.nan}, "sink must be finite"),
    ],
)
def test_a_read_that_cannot_be_done_says_why(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        read(*arguments, **options)


def test_a_temperature_that_is_no_number_is_named():
    with pytest.raises(TypeError, match="temperature must be a number, got 'cold'"):
        read(draws(D), draws(5, D), draws(5, 2), temperature="cold")


def test_a_memory_reads_token_by_token(xp):
    keys, values, x = draws(5, D), draws(5, 2), draws(2, N, D)
    memory = AssociativeMemory(as_kind(xp, keys), as_kind(xp, values), temperature=0.4, sink=0.1)
    y = to_numpy(memory(as_kind(xp, x)))
    assert y.shape == (2, N, 2)
    npt.assert_allclose(y[1, 3], literal_read(x[1, 3], keys, values, 0.4, 0.1), rtol=1e-12)


def test_a_batch_of_memories_reads_a_batch_of_signals(xp):
    keys, values, x = draws(2, 3, 5, D), draws(2, 3, 5, D, seed=1), draws(2, 3, N, D)
    memory = AssociativeMemory(as_kind(xp, keys), as_kind(xp, values), temperature=0.4, sink=0.1)
    y, last = memory(as_kind(xp, x)), memory.last(as_kind(xp, x))
    for i in range(2):
        for j in range(3):
            single = AssociativeMemory(keys[i, j], values[i, j], temperature=0.4, sink=0.1)
            npt.assert_allclose(to_numpy(y[i, j]), single(x[i, j]), rtol=1e-12, atol=1e-14)
            npt.assert_allclose(to_numpy(last[i, j]), single.last(x[i, j]), rtol=1e-12, atol=1e-14)


@every_case(
    "keys, values, options, message",
    [
        (np.ones(3), np.ones((3, 2)), {}, r"keys must be \(..., slots, d\), got ndarray of shape \(3,\)"),
        (np.ones((3, 2)), [[1.0]], {}, "values must be .* got list"),
        (np.ones((0, 2)), np.ones((0, 2)), {}, r"got ndarray of shape \(0, 2\)"),
        (np.ones((3, 2)), np.ones((2, 2)), {}, "3 keys but 2 values: every key has one value"),
        (np.full((3, 2), math.nan), np.ones((3, 2)), {}, "keys must be finite"),
        (np.ones((3, 2)), np.ones((3, 2)), {"temperature": -1.0}, "temperature must be positive"),
        (np.ones((3, 2)), np.ones((3, 2)), {"sink": math.inf}, "sink must be finite"),
    ],
)
def test_what_is_no_memory_is_refused(keys, values, options, message):
    with pytest.raises(ValueError, match=message):
        AssociativeMemory(keys, values, **{"temperature": 1.0, **options})


@every_case("query", [(2, N, D), (3, 1, N, D)])
def test_batches_that_do_not_fit_are_named(xp, query):
    keys = as_kind(xp, draws(3, 5, D))
    if query[0] == 2:
        with pytest.raises(InputError, match=r"the batches of query \(2, 6, 4\) and keys \(3, 5, 4\) do not fit"):
            read(as_kind(xp, draws(*query)), keys, keys)
    else:
        assert tuple(read(as_kind(xp, draws(*query)), keys, keys).shape) == (3, 3, N, D)


def test_a_memory_whose_batches_do_not_fit_is_refused_when_it_is_made():
    with pytest.raises(InputError, match=r"the batches of keys \(2, 5, 4\) and values \(3, 5, 4\) do not fit"):
        AssociativeMemory(draws(2, 5, D), draws(3, 5, D), temperature=1.0)
