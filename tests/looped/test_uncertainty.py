"""How far eigenvalues may be off: disks that hold what is known exactly, on Jordan blocks of every size and scale."""

import numpy as np
import pytest
import torch

from ctrlattn import PID, looped
from ctrlattn.design import performance
from ctrlattn.looped.uncertainty import compressed, eigenvalue_errors, measured_within, reached
from ctrlattn.passes import Passes
from ctrlattn.stability import stable_gains, stable_recalls


def jordan(rng):
    """(J, its distinct eigenvalues): one real block, or one of a complex pair, inside, on or outside the circle."""
    size, coupling = int(rng.integers(2, 7)), 10.0 ** rng.uniform(-6, 6)
    value = float(rng.choice([rng.uniform(-0.9, 0.9), rng.choice([-1.0, 1.0]), rng.choice([-3.0, -1.2, 1.5, 2.0])]))
    if rng.integers(3):
        matrix, values = value * np.eye(size) + coupling * np.eye(size, k=1), [value]
    else:
        angle, count = rng.uniform(0.3, 2.8), max(size // 2, 1)
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        matrix = np.kron(np.eye(count), abs(value) * turn) + coupling * np.kron(np.eye(count, k=1), np.eye(2))
        values = [abs(value) * np.exp(1j * angle), abs(value) * np.exp(-1j * angle)]
    if rng.integers(2):
        q = np.linalg.qr(rng.standard_normal(matrix.shape))[0]
        matrix = q @ matrix @ q.T
    return matrix, np.array(values)


def clustered(rng):
    """Eigenvalues that differ by 1e-9 to 1e-3, under a similarity transform that is far from orthogonal."""
    size = int(rng.integers(2, 7))
    middle = float(rng.choice([0.5, -0.7, 1.0, -1.0, 1.5, -2.0]))
    values = middle + 10.0 ** rng.uniform(-9, -3) * rng.standard_normal(size)
    transform = np.linalg.qr(rng.standard_normal((size, size)))[0] * 10.0 ** rng.uniform(-2, 2, size)
    transform = transform + 0.3 * rng.standard_normal((size, size))
    return transform @ np.diag(values) @ np.linalg.inv(transform), values


def as_map(rng, matrix):
    """(F, x) of a linear pass, of numpy or torch, at a point of any size."""
    x = 10.0 ** rng.uniform(-6, 6) * rng.standard_normal(len(matrix))
    if rng.integers(2):
        move = torch.tensor(matrix)
        return (lambda h: move @ h), torch.tensor(x)
    return (lambda h: matrix @ h), x


def exact_limits(values, law, recall):
    """(gain, recall, least recall) of eigenvalues that are known exactly; nan where there is none."""
    gains = [pair for pair in stable_gains(law, values, recall) if pair[1] > 0 and np.isfinite(pair[1])]
    gain = next((pair for pair in gains if pair[0] < 1 < pair[1]), gains[-1])[1] if gains else np.nan
    recalls = stable_recalls(law, values)
    return gain, recalls[0][0] if recalls else np.nan, max(float(np.real(values).max()) - 1, 0.0)


CONTROLLERS = (None, PID(0.4), PID(0.3, 0.05), PID(0.5, 0.0, 0.2))


@pytest.mark.slow
@pytest.mark.parametrize(("of", "seed"), [(jordan, 0), (clustered, 1)])
def test_limits_on_hard_maps_are_right_within_their_errors_or_open(of, seed):
    rng, given = np.random.default_rng(seed), 0
    for count in range(8):
        matrix, values = of(rng)
        f, x = as_map(rng, matrix)
        law, recall = CONTROLLERS[count % 4], float(rng.choice([0.0, 0.5, 2.0]))
        try:
            found = looped.limits(f, x, looped.spectrum(f, x), controller=law, recall=recall)
            exact = exact_limits(values, law, recall)
        except ArithmeticError:  # the loop contradicts it, or an exact limit is beyond double precision itself
            continue
        for limit, value in zip(found[:3], exact, strict=True):
            if limit.why:
                assert np.isnan(limit.value)
                continue
            given += 1
            assert np.isnan(limit.value) == np.isnan(value)
            if np.isfinite(value):
                assert abs(limit.value - value) <= limit.error + 1e-12 * abs(value)
                assert limit.error <= 0.0125 * max(abs(limit.value), 0.02)
    assert given >= 5  # it does not answer by refusing


@pytest.mark.slow
@pytest.mark.parametrize("of", [jordan, clustered])
def test_disks_hold_the_exact_eigenvalues_and_the_verdict_does_not_contradict_them(of):
    rng, decided = np.random.default_rng(11), 0
    for _ in range(24):
        matrix, values = of(rng)
        f, x = as_map(rng, matrix)
        found = looped.spectrum(f, x)
        away = np.abs(found.eigenvalues[:, None] - values)
        assert np.all(away.min(axis=1) <= found.errors)
        outcome = reached(Passes(), found.eigenvalues, found.errors)
        decided += not outcome.undecided.any()
        assert not (outcome.stable.all() and np.abs(values).max() >= 1)
        assert not (outcome.unstable.any() and np.abs(values).max() <= 1)
    assert decided >= 4


def test_errors_are_those_of_the_smallest_perturbation_that_moves_an_eigenvalue():
    # The corner of a Jordan block moves all k eigenvalues by delta^(1/k); it moves those of a normal matrix by delta.
    for size in range(2, 7):
        block, delta = 0.5 * np.eye(size) + np.eye(size, k=1), 1e-9
        corner = block.copy()
        corner[-1, 0] = delta
        moved = np.abs(np.linalg.eigvals(corner) - 0.5).max()
        off = eigenvalue_errors(block, np.array([0.5]), delta)[0]
        assert moved <= off <= 4 * moved
    assert eigenvalue_errors(np.diag([0.5, 0.9, -2.0]), np.array([0.5, -2.0]), 1e-9) == pytest.approx(3e-9)


def test_nothing_is_known_of_an_eigenvalue_where_the_matrix_is_not():
    assert eigenvalue_errors(np.eye(2), np.array([1.0]), 10.0)[0] == 22.0
    assert eigenvalue_errors(np.zeros((2, 2)), np.zeros(2), 1e-9) == pytest.approx(2e-9)


@pytest.mark.parametrize("recall", [0.0, 0.5])
@pytest.mark.parametrize("controller", CONTROLLERS)
def test_an_eigenvalue_on_the_boundary_is_undecided_and_one_beside_it_is_not(controller, recall):
    loop = Passes(controller, recall=recall)
    edge = np.array([1 + recall])  # a pole at 1, whatever the controller
    assert reached(loop, edge, np.array([1e-9])).undecided.all()
    beside = reached(loop, np.append(edge - 0.02, edge + 0.02), np.full(2, 1e-9))
    assert beside.undecided.tolist() == [False, False]
    assert beside.stable.tolist() == [True, False]
    assert beside.unstable.tolist() == [False, True]


def test_a_part_of_a_spectrum_has_the_errors_that_its_residuals_leave():
    rng = np.random.default_rng(0)
    block = np.array([[0.9, 3.0], [0.0, 0.9 + 1e-4]])
    values, vectors = np.linalg.eig(block)
    s, known = compressed(values.astype(complex), vectors.astype(complex), np.full(2, 1e-12))
    assert np.sort(np.linalg.eigvals(s).real) == pytest.approx([0.9, 0.9001])
    # Two vectors that are nearly one: a residual of 1e-12 on each lets the matrix differ by much more.
    assert known > 1e4 * 1e-12
    q = np.linalg.qr(rng.standard_normal((40, 2)))[0].astype(complex)
    assert compressed(np.array([1.0 + 0j, 0.5]), q, np.full(2, 1e-6))[1] == pytest.approx(2**0.5 * 1e-6, rel=1e-3)


@pytest.mark.slow
def test_a_measured_part_of_a_large_spectrum_is_undecided_at_the_circle_alone():
    size = 700
    values = torch.linspace(-0.6, 0.6, size, dtype=torch.float64)
    for outer, expected in ((1.0, True), (0.98, False), (1.02, False)):
        diagonal = values.clone()
        diagonal[0] = outer
        found = looped.spectrum(lambda h, d=diagonal: d * h, torch.ones(size, dtype=torch.float64), 2)
        assert reached(Passes(), found.eigenvalues, found.errors).undecided.any() == expected


def test_a_disk_that_holds_the_whole_stable_region_is_not_unstable():
    # Its edge and its middle lie outside the circle, and the unit disk between them.
    assert reached(Passes(), np.array([25.0]), np.array([27.0])).undecided.all()
    assert reached(Passes(), np.array([50j]), np.array([49.5])).undecided.all()
    assert reached(Passes(), np.array([50j]), np.array([45.0])).unstable.all()


@pytest.mark.parametrize("law", [PID(0.0, 0.5), PID(0.2, 0.5), PID(0.0, 0.5, 0.1)])
def test_a_disk_that_holds_the_point_where_a_pole_is_1_decides_nothing_whatever_its_edge_says(law):
    """With I the poles are 1 +- sqrt(k_i (lambda - 1)) near lambda = 1: outside on the edge of a disk, on it at 1."""
    center, error = np.array([1 + 3e-7 + 2e-7j]), np.array([1e-6])
    assert reached(Passes(law), center, error).undecided.tolist() == [True]
    assert reached(Passes(law), center + 1e-5, error).unstable.tolist() == [True]


# --- Ms and settling ----------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("of", [jordan, clustered])
def test_settling_and_ms_of_hard_maps_lie_between_what_is_given(of):
    rng, narrow, stable = np.random.default_rng(5), 0, 0
    for count in range(28):
        matrix, values = of(rng)
        f, x = as_map(rng, matrix)
        loop = Passes(CONTROLLERS[count % 4], recall=0.5)
        found, exact = looped.spectrum(f, x), performance(loop, values)
        if not reached(loop, found.eigenvalues, found.errors).stable.all():
            continue
        stable += 1
        within = measured_within(loop, found.eigenvalues, found.errors)
        worst = {"ms": 1 / exact.modulus_margin.min(), "settling": exact.settling.max()}
        for name, (least, largest) in within.items():
            assert least * (1 - 1e-6) <= worst[name] <= largest * (1 + 1e-6)
        narrow += within["ms"][1] <= 1.01 * within["ms"][0]
    assert narrow >= 0.6 * stable > 6  # it does not answer by leaving open


def test_ms_and_settling_of_a_disk_are_those_of_its_ends():
    # C = 1: the pole is lambda, S = (z - 1)/(z - lambda), at most 2/(1 + lambda) for a real one.
    # It settles once lambda^k <= .02.
    ms, settling = measured_within(Passes(), np.array([0.5]), np.array([0.25])).values()
    z = np.exp(1j * np.linspace(0, np.pi, 10_001))
    assert ms[0] == pytest.approx(2 / 1.75)
    assert ms[1] == pytest.approx(np.max(np.abs(z - 1) / (np.abs(z - 0.5) - 0.25)), rel=1e-2)
    assert settling == (np.ceil(np.log(0.02) / np.log(0.25)), np.ceil(np.log(0.02) / np.log(0.75)))
    # The worst of two: its least is at least what the other has at best.
    two = measured_within(Passes(), np.array([0.5, -0.5]), np.array([0.25, 0.25]))
    assert two["ms"] == pytest.approx((2 / (1 - 0.25), 2 / (1 - 0.75)))
