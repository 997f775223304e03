"""Small, singular, defective, marginal, complex, broken and huge inputs: each quantity against its own definition.

The definitions are evaluated on a grid of frequencies (which never exceeds a peak and comes near it) or term by term.
"""

import control
import numpy as np
import pytest
import torch
from cases import every_case
from numpy.testing import assert_allclose

import ctrlattn
from ctrlattn import design, frequency, stability
from ctrlattn.linear.realization import Realization
from ctrlattn.stability import peak_gain

OMEGA = np.linspace(-np.pi, np.pi, 1025)
CIRCLE = np.exp(1j * OMEGA)


def jordan(n, a):
    return a * np.eye(n) + np.eye(n, k=1)


STABLE = {
    "one state": np.array([[0.5]]),
    "negative": np.array([[-0.5]]),
    "two states": np.array([[0.5, 1.0], [0.0, 0.25]]),
    "zero": np.zeros((1, 1)),
    "zeros": np.zeros((3, 3)),
    "tiny": np.array([[1e-300]]),
    "delays": np.eye(4, k=-1),
    "repeated": jordan(4, 0.3),
    "rotation": 0.9 * np.array([[0.0, -1.0], [1.0, 0.0]]),
    "complex": np.array([[0.3 + 0.4j, 1.0], [0.0, -0.2j]]),
    "large entry": np.array([[0.5, 1e6], [0.0, -0.5]]),
}
MARGINAL = {
    "integrator": np.array([[1.0]]),
    "alternating": np.array([[-1.0]]),
    "two integrators": jordan(2, 1.0),
    "turning": np.array([[0.0, -1.0], [1.0, 0.0]]),
}
EVERY = {**STABLE, **MARGINAL, "unstable": np.array([[2.0]])}


def chain(a):
    """(A, B, C, D): in at the last state, out at the first, so that a chain is passed from end to end."""
    n = len(a)
    return a, np.eye(n)[:, -1:], np.eye(n)[:1], np.zeros((1, 1))


def response(a):
    a, b, c, _ = chain(a)
    return np.array([(c @ np.linalg.solve(z * np.eye(len(a)) - a, b))[0, 0] for z in CIRCLE])


def impulse(a, steps=400):
    a, b, c, _ = chain(a)
    outputs = []
    for _ in range(steps):
        outputs.append((c @ b)[0, 0])
        b = a @ b
    return np.array(outputs)


def sigma_min(a, z):
    return np.linalg.svd(np.asarray(z)[:, None, None] * np.eye(len(a)) - a, compute_uv=False)[:, -1]


@every_case("a", EVERY.values(), ids=EVERY)
def test_quantities_of_a_matrix(a):
    turned = [np.linalg.eigvalsh((z * a + (z * a).conj().T) / 2)[-1] for z in CIRCLE]
    assert_allclose(stability.numerical_radius(a), max(turned), rtol=1e-5, atol=1e-300)
    assert_allclose(stability.numerical_abscissa(a), turned[512], rtol=1e-12, atol=1e-300)
    schur = np.linalg.norm(a) ** 2 - np.linalg.norm(ctrlattn.linear.poles(a)) ** 2
    assert_allclose(stability.henrici_departure(a), np.sqrt(max(schur, 0.0)), rtol=1e-9, atol=1e-7)
    grid = np.array([0.0, 1.5 - 0.5j, 0.3j])
    assert_allclose(stability.pseudospectrum(a, grid), sigma_min(a, grid), rtol=1e-3, atol=1e-12)


@every_case("a", EVERY.values(), ids=EVERY)
def test_the_pseudospectral_radius_is_the_last_circle_that_meets_the_set(a):
    eps = 1e-3
    radius = stability.pseudospectral_radius(a, eps)
    fine = np.exp(1j * np.linspace(-np.pi, np.pi, 4097))
    assert np.min(sigma_min(a, radius * fine)) <= eps * 1.05
    assert np.min(sigma_min(a, radius * (1 + 1e-6) * fine)) >= eps


@every_case("a", STABLE.values(), ids=STABLE)
def test_kreiss_and_growth_of_stable_matrices(a):
    growth = stability.transient_growth(a, 30)
    powers = [np.linalg.norm(np.linalg.matrix_power(a, k), 2) for k in range(31)]
    assert_allclose(growth.norms, powers, rtol=1e-9, atol=1e-290)
    assert growth.lower <= growth.peak * (1 + 1e-9) <= growth.upper * (1 + 1e-8)
    largest = max((r - 1) / np.min(sigma_min(a, r * CIRCLE[::32])) for r in 1 + np.geomspace(1e-3, 1e3, 60))
    assert largest <= stability.kreiss_constant(a) * (1 + 1e-9)
    assert stability.kreiss_constant(a) <= max(1.0, largest) * 1.02
    assert_allclose(stability.distance_to_instability(a), np.min(sigma_min(a, CIRCLE)), rtol=1e-4)


def test_kreiss_on_the_border():
    for name in ("integrator", "alternating", "turning"):
        assert_allclose(stability.kreiss_constant(MARGINAL[name]), 1.0, rtol=1e-9, err_msg=name)
    assert stability.kreiss_constant(MARGINAL["two integrators"]) == np.inf
    assert stability.kreiss_constant(np.array([[2.0]])) == np.inf
    assert all(stability.distance_to_instability(a) < 1e-15 for a in MARGINAL.values())


@every_case("a", STABLE.values(), ids=STABLE)
def test_norms_and_gramians_of_stable_systems(a):
    system = chain(a)
    h = impulse(a)
    assert_allclose(stability.h2_norm(system), np.linalg.norm(h), rtol=1e-8, atol=1e-250)
    peak = np.max(np.abs(response(a)))
    assert peak * (1 - 1e-12) <= peak_gain(system).upper
    assert_allclose(stability.hinf_norm(system), peak, rtol=1e-4, atol=1e-250)
    p, q = stability.controllability_gramian(system), stability.observability_gramian(system)
    b, c = system[1], system[2]
    assert_allclose(a @ p @ a.conj().T + b @ b.conj().T, p, atol=1e-11 * np.linalg.norm(p))
    assert_allclose(a.conj().T @ q @ a + c.conj().T @ c, q, atol=1e-11 * np.linalg.norm(q))
    products = np.sort(np.abs(np.linalg.eigvals(p @ q)))[::-1]
    assert_allclose(stability.hankel_singular_values(system) ** 2, products, atol=1e-9 * max(products[0], 1e-200))


@every_case("a", {**MARGINAL, "unstable": np.array([[2.0]])}.values())
def test_what_does_not_converge_says_so(a):
    assert stability.h2_norm(chain(a)) == np.inf
    assert stability.hinf_norm(chain(a)) == np.inf
    for quantity in (
        stability.controllability_gramian,
        stability.observability_gramian,
        stability.hankel_singular_values,
    ):
        with pytest.raises(ValueError, match="on or beyond the boundary"):
            quantity(chain(a))


@every_case("a", EVERY.values(), ids=EVERY)
def test_disk_margin_against_the_grid(a):
    gain = 0.2 / (1 + np.abs(a).max())  # small enough for most to be stable
    a, b, c, d = chain(a)
    system = (a, gain * b, c, d)
    closed = np.max(np.abs(np.linalg.eigvals(a - gain * b @ c)))
    disk = stability.disk_margin(system)
    if closed >= 1 - 1e-12:
        assert disk.margin == 0
        return
    z = CIRCLE[np.min(np.abs(CIRCLE[:, None] - np.linalg.eigvals(a)), axis=1) > 1e-9]
    loop = gain * np.array([(c @ np.linalg.solve(p * np.eye(len(a)) - a, b))[0, 0] for p in z])
    assert_allclose(disk.margin, 1 / np.max(np.abs(1 / (1 + loop) - 0.5)), rtol=1e-4)
    if np.isrealobj(a):
        real = control.ss(*system, 1, remove_useless_states=False)
        modulus = stability.margins(real).modulus_margin
        assert_allclose(modulus, np.min(np.abs(1 + loop)), rtol=1e-4)
        assert_allclose(stability.loop_margins(real)[0].classical.modulus_margin, modulus)


def test_a_pole_on_the_circle_beside_one_outside_is_no_matter_of_rounding():
    """Poles 1.2 and 1 in one direction: the distance there is 0, the pole 1.2 is certain."""
    q = np.linalg.qr(np.random.default_rng(0).standard_normal((4, 4)))[0]
    a = q @ np.diag([1.2, 1.0, 0.3, -0.5]) @ q.T
    assert not Realization(a, q[:, :1], q[:1], np.zeros((1, 1)), False).is_stable()
    hidden = np.linalg.qr(np.random.default_rng(1).standard_normal((30, 30)))[0]
    with pytest.raises(ArithmeticError, match="cannot be decided"):
        Realization(hidden @ jordan(30, 0.9) @ hidden.T, q, q, q, False).is_stable()


@every_case("a", [a for a in EVERY.values() if np.isrealobj(a)])
def test_frequency_response_is_the_solve_at_each_frequency(a):
    omega = np.append(np.linspace(-3, 3, 600), [0.0, np.pi])  # the last two are poles of the integrators
    z = np.exp(1j * np.sort(omega))
    actual = ctrlattn.frequency_response(control.ss(*chain(a), 1, remove_useless_states=False), omega).complex
    regular = np.min(np.abs(z[:, None] - np.linalg.eigvals(a)), axis=1) > 1e-9
    expected = [np.linalg.solve(p * np.eye(len(a)) - a, np.eye(len(a))[:, -1])[0] for p in z[regular]]
    assert_allclose(actual[regular], expected, rtol=1e-10, atol=1e-14)
    assert np.all(np.isinf(actual[~regular].real))


def test_lost_digits_of_a_frequency_response_are_told():
    n = 60
    q = np.linalg.qr(np.random.default_rng(0).standard_normal((n, n)))[0]
    turned = control.ss(q @ jordan(n, 0.5) @ q.T, q, q.T, 0, 1)
    with pytest.warns(RuntimeWarning, match="rounding of A alone"):
        ctrlattn.frequency_response(turned, [0.1])
    ctrlattn.frequency_response(control.ss(jordan(n, 0.5), np.eye(n), np.eye(n), 0, 1), [0.1])  # back substitution


@every_case("a", STABLE.values(), ids=STABLE)
def test_circle_criterion_and_contraction(a):
    gain = 0.05 / (1 + np.abs(a).max())
    a, b, c, d = chain(a)
    system = (a, gain * b, c, d)
    g = gain * response(a)
    criterion = stability.circle_criterion(system, 0.0, 1.0)
    assert_allclose(criterion.gain, 0.5 * np.max(np.abs(g / (1 + 0.5 * g))), rtol=1e-4, atol=1e-250)
    if np.iscomplexobj(a):
        with pytest.raises(ValueError, match="real"):
            stability.contraction_certificate(system, 0.0, 1.0)
        return
    certificate = stability.contraction_certificate(system, 0.0, 1.0)
    p, rng = certificate.metric, np.random.default_rng(0)
    for slope in (0.0, 1.0, *rng.uniform(0, 1, 5)):  # a linear loop of the sector must shrink as certified
        closed = a - slope * gain * b @ c
        assert np.max(np.linalg.eigvalsh(closed.T @ p @ closed - certificate.rate**2 * p)) <= 1e-12


OF_A_MATRIX = {
    "kreiss_constant": stability.kreiss_constant,
    "pseudospectral_radius": lambda a: stability.pseudospectral_radius(a, 1e-3),
    "pseudospectral_abscissa": lambda a: stability.pseudospectral_abscissa(a, 1e-3),
    "numerical_radius": stability.numerical_radius,
    "distance_to_instability": stability.distance_to_instability,
    "transient_growth": lambda a: stability.transient_growth(a, 3),
    "pseudospectrum": lambda a: stability.pseudospectrum(a, np.array([1.0j])),
    "numerical_abscissa": stability.numerical_abscissa,
    "henrici_departure": stability.henrici_departure,
    "poles": ctrlattn.linear.poles,
}
OF_A_SYSTEM = {
    "h2_norm": stability.h2_norm,
    "hinf_norm": stability.hinf_norm,
    "disk_margin": stability.disk_margin,
    "loop_margins": stability.loop_margins,
    "controllability_gramian": stability.controllability_gramian,
    "observability_gramian": stability.observability_gramian,
    "hankel_singular_values": stability.hankel_singular_values,
    "balanced_truncation": lambda g: stability.balanced_truncation(g, 1),
    "circle_criterion": lambda g: stability.circle_criterion(g, 0.0, 0.1),
    "sector_limit": stability.sector_limit,
    "contraction_certificate": lambda g: stability.contraction_certificate(g, 0.0, 0.1),
    "margins": stability.margins,
    "crossings": stability.crossings,
    "gain_margin": stability.gain_margin,
    "limit_cycles": lambda g: stability.limit_cycles(g, np.tanh, np.array([0.5, 1.0])),
    "frequency_response": lambda g: ctrlattn.frequency_response(g, [1.0]),
}


@every_case("value", [np.nan, np.inf])
@every_case("quantity", [*OF_A_MATRIX.values(), *OF_A_SYSTEM.values()], ids=[*OF_A_MATRIX, *OF_A_SYSTEM])
def test_not_finite(quantity, value):
    a = np.array([[0.5, value], [0.0, 0.5]])
    given = a if quantity in OF_A_MATRIX.values() else control.ss(*chain(a), 1, remove_useless_states=False)
    with pytest.raises(ValueError, match=r"finite|NaN"):
        quantity(given)


@every_case(
    "quantity",
    [
        stability.h2_norm, stability.hinf_norm, peak_gain, stability.disk_margin, stability.controllability_gramian,
        stability.observability_gramian, stability.hankel_singular_values, stability.kreiss_constant,
        stability.distance_to_instability, stability.sector_limit,
        lambda g, continuous: stability.circle_criterion(g, 0.0, 1.0, continuous=continuous),
        lambda g, continuous: stability.transient_growth(g, 3, continuous=continuous),
    ],
)  # fmt: skip
def test_a_flag_that_contradicts_the_system(quantity):
    discrete = control.ss([[0.5]], [[1.0]], [[1.0]], 0, 1)
    quantity(discrete, continuous=False)
    with pytest.raises(ValueError, match="continuous=True contradicts"):
        quantity(discrete, continuous=True)


@every_case("quantity", list(OF_A_MATRIX.values())[:9], ids=list(OF_A_MATRIX)[:9])
def test_entries_whose_squares_overflow(quantity):
    with pytest.raises(ValueError, match="rescale the states"):
        quantity(np.array([[0.5, 1e200], [0.0, 0.5]]))
    with pytest.raises(ValueError, match="rescale the states"):
        stability.h2_norm(chain(np.array([[0.5, 1e200], [0.0, 0.5]])))


@pytest.fixture(scope="module")
def huge():
    """3,100 states that know nothing of each other, as a matrix and as a system."""
    a = np.diag(np.linspace(-0.9, 0.9, 3100))
    return a, control.StateSpace(*chain(a), 1, remove_useless_states=False)


@pytest.mark.slow
@every_case("name", [*list(OF_A_MATRIX)[:6], *list(OF_A_SYSTEM)[:13]])
def test_3100_states_are_refused_where_dense_algebra_would_take_hours(name, huge):
    with pytest.raises(ValueError, match="3100"):
        {**OF_A_MATRIX, **OF_A_SYSTEM}[name](huge[name in OF_A_SYSTEM])


@pytest.mark.slow
def test_3100_states_where_structure_answers(huge):
    assert_allclose(ctrlattn.linear.poles(huge[0])[:2], [-0.9, 0.9])
    response = ctrlattn.frequency_response(huge[1], [1.0, 2.0]).complex
    assert_allclose(response, 0.0, atol=1e-300)  # no way leads from the last state to the first


def test_the_norm_of_a_large_power_is_that_of_all_singular_values():
    a = ctrlattn.pass_operator(ctrlattn.Loop(ctrlattn.CausalMean(), order="sequential"), 420)
    expected = [np.linalg.norm(np.linalg.matrix_power(a, k), 2) for k in range(4)]
    assert_allclose(stability.transient_growth(a, 3, bounds=False).norms, expected, rtol=1e-12)


PID_LOOP = ctrlattn.Loop(ctrlattn.CausalMean(), skip=0.0, feedback=1.0, controller=ctrlattn.PID(0.4, 0.2, 0.05))
OF_A_LOOP = {
    "mode": ctrlattn.mode,
    "loop_transfer": ctrlattn.loop_transfer,
    "sensitivity": ctrlattn.sensitivity,
    "gang_of_four": frequency.gang_of_four,
    "gain_intervals": lambda loop, a: stability.gain_intervals(loop, ("kp", "ki"), a, 0.4),
    "gain_radius": lambda loop, a: stability.gain_radius(loop, ("kp",), a, [[0.4]]),
    "root_locus": lambda loop, a: stability.root_locus(loop, "kp", a, [0.0, 1.0]),
    "performance": design.performance,
    "lqr": design.lqr,
    "loop_shaping": lambda loop, a: design.loop_shaping(loop, a, ctrlattn.PID(0.5)),
    "judge": lambda loop, a: design.judge(loop, a, improve=False),
    "tune": lambda loop, a: design.tune(loop, a, design.Spec(modulus_margin=0.3)),
}


@every_case("quantity", OF_A_LOOP.values(), ids=OF_A_LOOP)
def test_what_a_mode_is_not(quantity):
    with pytest.raises(ValueError, match="sequence of 3"):
        quantity([PID_LOOP] * 3, 0.5)
    for a in (np.nan, np.inf, np.zeros(0)):
        with pytest.raises(ValueError, match=r"finite|one eigenvalue|at least one"):
            quantity(PID_LOOP, a)


def test_what_the_refusal_of_a_sequence_offers_is_there():
    """Response, growth and gain of layers that differ: here linear ones, whose product says all three."""
    rng = np.random.default_rng(0)
    matrices = [np.tril(m) / np.tril(m).sum(1, keepdims=True) for m in rng.random((3, 4, 4))]
    loops = [ctrlattn.Loop(ctrlattn.FixedAttention(m), skip=0.0, feedback=1.0) for m in matrices]
    with pytest.raises(ValueError, match=r"simulate .* lyapunov_exponents .* layer_map .* jacobian_operator"):
        ctrlattn.mode(loops, 0.5)
    product, x = matrices[2] @ matrices[1] @ matrices[0], rng.standard_normal((4, 1))
    assert_allclose(ctrlattn.simulate(loops, x, 3).state[-1], product @ x, rtol=1e-12)
    steps = [stability.layer_map(loop, x)[0] for loop in loops]
    exponents = stability.lyapunov_exponents(steps, stability.layer_map(loops[0], x)[1], 3)
    assert_allclose(np.sum(exponents), np.log(np.abs(np.linalg.det(product))) / 3, rtol=1e-6)
    whole = [loop.to(torch.zeros(1, dtype=torch.float64)) for loop in loops]
    gain = ctrlattn.jacobian_operator(lambda t: ctrlattn.simulate(whole, t, 3, record="last").state, x)
    assert_allclose(np.linalg.norm(gain @ np.eye(4), 2), np.linalg.norm(product, 2), rtol=1e-9)


@every_case(
    "quantity, word",
    [
        (lambda: ctrlattn.linear.poles([PID_LOOP] * 3), "sequence of 3"),
        (lambda: ctrlattn.linear.poles(PID_LOOP), "mode"),
        (lambda: ctrlattn.linear.open_loop_pole([PID_LOOP] * 3, 0.5), "sequence of 3"),
        (lambda: stability.balanced_truncation([PID_LOOP] * 3, 1), "sequence of 3"),
        (lambda: stability.lyapunov_exponents(PID_LOOP, np.zeros((2, 1)), 3), "layer_map"),
        (lambda: stability.lyapunov_exponents([PID_LOOP] * 3, np.zeros((2, 1)), 3), "layer_map"),
        (lambda: stability.fixed_point(PID_LOOP, np.zeros((2, 1))), "layer_map"),
        (lambda: stability.bifurcation_diagram(PID_LOOP, np.zeros(1), [0.5], observe=float), "layer_map"),
        (lambda: stability.continue_fixed_point(PID_LOOP, np.zeros(1), (0.0, 1.0)), "layer_map"),
        (lambda: stability.largest_stable_step(PID_LOOP, 0.5), "a PID, got Loop"),
    ],
)
def test_loops_where_something_else_is_asked(quantity, word):
    with pytest.raises((TypeError, ValueError), match=word):
        quantity()


@pytest.mark.parametrize("quantity", [design.lqr, OF_A_LOOP["loop_shaping"]])
def test_a_mode_beyond_the_riccati_solver(quantity):
    with pytest.raises(ValueError, match="no solution"):
        quantity(PID_LOOP, 1e200)


@every_case(
    "step, size, expected",
    [
        (lambda x: 0.5 * x, 1, [np.log(0.5)]),
        (lambda x: 0.0 * x, 2, [-np.inf, -np.inf]),
        (lambda x: np.eye(3, k=-1) @ x, 3, [-np.inf] * 3),
        (lambda x: jordan(3, 0.5) @ x, 3, [np.log(0.5)] * 3),
    ],
    ids=["one", "zero", "delays", "repeated"],
)
def test_exponents_and_fixed_points_of_degenerate_maps(step, size, expected):
    assert_allclose(stability.lyapunov_exponents(step, np.zeros(size), 40)[-1], expected[-1], atol=0.2)
    assert stability.fixed_point(step, np.ones(size) / 8).stable


def test_maps_that_leave_the_floats():
    with pytest.raises(ValueError, match="no longer finite"):
        stability.lyapunov_exponents(lambda x: 1e200 * x, np.ones(2), 5)
    with pytest.raises(ArithmeticError, match="no fixed point"):
        stability.fixed_point(lambda x: np.nan * x, np.ones(2))
    with pytest.raises(ValueError, match="not a number"):
        stability.kaplan_yorke_dimension(np.array([np.nan]))
    with pytest.raises(ValueError, match="x must be finite"):
        ctrlattn.linearize(PID_LOOP, np.full((2, 1), np.nan))
    with pytest.raises(ValueError, match="finite"):
        frequency.sensitivity_response(ctrlattn.PID(0.5), np.nan, [0.0])
