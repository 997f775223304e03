"""Complex numbers are computed with or refused, in every public function of control theory: none is made real.

What is computed is compared with its definition, or with the real 2 x 2 form (Re, -Im; Im, Re) of the same system.
"""

import inspect

import control
import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from ctrlattn import PID, AssociativeMemory, CausalMean, FixedAttention, Loop, SoftmaxAttention
from ctrlattn import design as D
from ctrlattn import frequency as F
from ctrlattn import linear as L
from ctrlattn import stability as S
from ctrlattn.arrays import like, require_real
from ctrlattn.controllers import LTIController, as_controller
from ctrlattn.errors import InputError

pytestmark = pytest.mark.filterwarnings("error::numpy.exceptions.ComplexWarning")

A = 0.5 + 0.2j
NUMBER = np.complex128(A)  # unlike complex, numpy's own number becomes a float with no more than a warning
MATRIX = np.array([[A, 0.1], [0.0, 0.3]])
ATTENTION = np.array([[1.0, 0.0], [A, 0.5]])
TUPLE = (np.array([[A]]), np.ones((1, 1)), np.ones((1, 1)), np.zeros((1, 1)))
OMEGA = np.array([0.1, 0.2 + 0.3j])
PROPORTIONAL = PID(0.6)
LOOP = Loop(CausalMean(), skip=0.0, feedback=1.0, controller=PROPORTIONAL)
AXES = ("kp", "ki")


def state_space(a=A):
    """1/(z - a); python-control casts what its constructor takes, and nothing that is set later."""
    system = control.ss([[0.5]], [[1.0]], [[1.0]], [[0.0]], 1)
    system.A = np.array([[a]])
    return system


def fraction():
    """(1 + 0.3i)/(z - 0.5)."""
    system = control.tf([1.0], [1.0, -0.5], 1)
    system.num_array[0, 0] = np.array([1.0 + 0.3j])
    return system


def real_form(a):
    """z as the matrix of multiplication by z; all of a 2 n by 2 n system is a complex one and its conjugate."""
    return np.block([[a.real, -a.imag], [a.imag, a.real]])


def realified():
    return tuple(real_form(np.asarray(m, dtype=complex)) for m in TUPLE)


def at(z):
    return 1 / (z - A)


GRID = np.exp(1j * np.linspace(-np.pi, np.pi, 100001))
REAL_SISO = {
    "margins": S.margins,
    "crossings": S.crossings,
    "gain_margin": S.gain_margin,
    "loop_margins": S.loop_margins,
    "balanced_truncation": lambda g: S.balanced_truncation(g, 1),
    "balanced_truncation to a tol": lambda g: S.balanced_truncation(g, tol=10.0),
    "nu_gap": lambda g: S.nu_gap(g, g),
    "limit_cycles": lambda g: S.limit_cycles(g, np.tanh, [0.1, 1.0]),
    "contraction_certificate": lambda g: S.contraction_certificate(g, 0.0, 0.1),
    "as_controller": as_controller,
    "LTIController": LTIController,
    "is_stable": lambda g: S.is_stable(g, 0.5),
    "closed_loop_poles": lambda g: S.closed_loop_poles(g, 0.5),
    "spectral_radius": lambda g: S.spectral_radius(g, 0.5),
    "stability_set": S.stability_set,
    "stability_interval": S.stability_interval,
    "region_boundary": lambda g: S.region_boundary(g, [0.1]),
    "sensitivity_peaks": lambda g: F.sensitivity_peaks(g, 0.5),
    "sensitivity_response": lambda g: F.sensitivity_response(g, 0.5, [0.1]),
    "loop_shaping": lambda g: D.loop_shaping(LOOP, 0.5, g),
    "a controller of a loop": lambda g: D.performance(Loop(CausalMean(), controller=g), [0.5]),
}


@pytest.mark.parametrize("system", [state_space, fraction])
@pytest.mark.parametrize("name", REAL_SISO)
def test_a_quantity_of_real_systems_refuses_a_complex_one(name, system):
    with pytest.raises(InputError, match=r"real"):
        REAL_SISO[name](system())


@pytest.mark.parametrize("name", ["margins", "crossings", "nu_gap", "limit_cycles"])
def test_one_sentence_fits_every_quantity(name):
    with pytest.raises(InputError, match=f"^{name}: the system must be real, got complex values"):
        REAL_SISO[name](state_space())
    with pytest.raises(TypeError, match=f"^{name} takes a StateSpace or TransferFunction, got tuple"):
        REAL_SISO[name](TUPLE)


PHI = {"linear": lambda v: NUMBER * v}
REFUSED = {
    "frequency_response omega": lambda: F.frequency_response(state_space(0.5), OMEGA),
    "attention_spectrum": lambda: S.attention_spectrum(ATTENTION),
    "token_frequency_response": lambda: F.token_frequency_response(ATTENTION, [0.1]),
    "token_frequency_response omega": lambda: F.token_frequency_response(np.eye(2), OMEGA),
    "difference_gain": lambda: F.difference_gain(ATTENTION),
    "mean_cosine": lambda: F.mean_cosine(ATTENTION),
    "participation_rank": lambda: F.participation_rank(torch.tensor(ATTENTION)),
    "convergence": lambda: S.convergence(NUMBER * np.ones((4, 1))),
    "kaplan_yorke_dimension": lambda: S.kaplan_yorke_dimension([NUMBER, -1.0]),
    "softmax_sector": lambda: S.softmax_sector(NUMBER),
    "normalizer_sector": lambda: S.normalizer_sector(NUMBER),
    "normalizer_sector eps": lambda: S.normalizer_sector(1.0, eps=NUMBER),
    "circle_criterion": lambda: S.circle_criterion(state_space(0.5), 0.0, NUMBER),
    "sector_limit": lambda: S.sector_limit(state_space(0.5), NUMBER),
    "contraction_certificate": lambda: S.contraction_certificate(state_space(0.5), 0.0, NUMBER),
    "contraction_certificate tol": lambda: S.contraction_certificate(state_space(0.5), 0.0, 0.1, tol=NUMBER),
    "describing_function": lambda: S.describing_function(np.tanh, NUMBER),
    "limit_cycles": lambda: S.limit_cycles(state_space(0.5), np.tanh, [0.1, NUMBER]),
    "limit_cycles phi": lambda: S.limit_cycles(state_space(0.5), PHI["linear"], [0.1, 1.0]),
    "disk_margin skew": lambda: S.disk_margin(state_space(), skew=NUMBER),
    "disk_margin tol": lambda: S.disk_margin(state_space(), tol=NUMBER),
    "hinf_norm tol": lambda: S.hinf_norm(state_space(), tol=NUMBER),
    "peak_gain tol": lambda: S.peak_gain(state_space(), tol=NUMBER),
    "balanced_truncation tol": lambda: S.balanced_truncation(state_space(0.5), tol=NUMBER),
    "pseudospectral_radius": lambda: S.pseudospectral_radius(MATRIX, NUMBER),
    "pseudospectral_abscissa": lambda: S.pseudospectral_abscissa(MATRIX, NUMBER),
    "pseudospectrum": lambda: S.pseudospectrum(MATRIX, [1j], rtol=NUMBER),
    "transient_growth": lambda: S.transient_growth(MATRIX, 5, continuous=True, interval=NUMBER),
    "region_boundary": lambda: S.region_boundary(PROPORTIONAL, OMEGA),
    "gain_boundary": lambda: S.gain_boundary(LOOP, AXES, 0.5, OMEGA),
    "gain_radius": lambda: S.gain_radius(LOOP, AXES, [0.5], [NUMBER, 1.0]),
    "gain_region": lambda: S.gain_region(LOOP, AXES, [0.5], [NUMBER]),
    "gain_intervals": lambda: S.gain_intervals(LOOP, AXES, [0.5], NUMBER),
    "root_locus": lambda: S.root_locus(LOOP, "kp", 0.5, [0.0, NUMBER]),
    "with_step": lambda: S.with_step(PROPORTIONAL, NUMBER),
    "bifurcation_diagram": lambda: S.bifurcation_diagram(scaling, np.ones(1), [NUMBER], observe=np.sum),
    "bifurcation_diagram x": lambda: S.bifurcation_diagram(scaling, [NUMBER], [0.5], observe=np.sum),
    "bifurcation_diagram observe": lambda: S.bifurcation_diagram(scaling, np.ones(1), [0.5], observe=lambda x: NUMBER),
    "fixed_point": lambda: S.fixed_point(scaling(0.5), np.array([NUMBER])),
    "fixed_point map": lambda: S.fixed_point(scaling(NUMBER), np.ones(1)),
    "continue_fixed_point": lambda: S.continue_fixed_point(scaling, np.ones(1), (0.5, NUMBER)),
    "lyapunov_exponents": lambda: S.lyapunov_exponents(scaling(0.5), np.array([NUMBER]), 5),
    "lyapunov_exponents map": lambda: S.lyapunov_exponents(scaling(NUMBER), np.ones(1), 5),
    "lyapunov_exponents jvp": lambda: S.lyapunov_exponents(scaling(0.5), np.ones(1), 5, jvp=lambda x, v: NUMBER * v),
    "exponent_intervals": lambda: S.exponent_intervals(scaling(0.5), np.array([NUMBER]), 5),
    "exponent_intervals map": lambda: S.exponent_intervals(scaling(NUMBER), np.ones(1), 5),
    "exponent_intervals jvp": lambda: S.exponent_intervals(scaling(0.5), np.ones(1), 5, jvp=lambda x, v: NUMBER * v),
    "layer_map": lambda: S.layer_map(LOOP, np.eye(2), reference=ATTENTION),
    "attention_lipschitz": lambda: S.attention_lipschitz(SoftmaxAttention(wq=ATTENTION), 1.0),
    "attention_lipschitz radius": lambda: S.attention_lipschitz(SoftmaxAttention(wq=np.eye(2)), NUMBER),
    "attention_contraction": lambda: S.attention_contraction(Loop(SoftmaxAttention(wq=ATTENTION)), 1.0),
    "sector_form": lambda: S.sector_form(Loop(AssociativeMemory(ATTENTION, ATTENTION, temperature=1.0))),
    "pass_operator": lambda: L.pass_operator(Loop(FixedAttention(ATTENTION)), 2),
    "token_system": lambda: L.token_system(Loop(FixedAttention(ATTENTION)), 2),
    "linearize": lambda: L.linearize(LOOP, torch.tensor(ATTENTION)),
    "jacobian_operator": lambda: L.jacobian_operator(scaling(0.5), torch.tensor(ATTENTION)),
    "step_metrics": lambda: L.step_metrics(np.array([0.0, A, 1.0]), 1.0),
    "step_metrics target": lambda: L.step_metrics(np.ones(3), NUMBER),
    "step_metrics final": lambda: L.step_metrics(np.ones(3), 1.0, final=NUMBER),
    "sensitivity_response": lambda: F.sensitivity_response(PROPORTIONAL, 0.5, OMEGA),
    "lqr": lambda: D.lqr(LOOP, NUMBER),
    "lqr error": lambda: D.lqr(LOOP, 0.5, error=NUMBER),
    "lqr_margin": lambda: D.lqr_margin(LOOP, 0.5, control=NUMBER),
    "loop_shaping": lambda: D.loop_shaping(LOOP, NUMBER, PROPORTIONAL),
    "loop_shaping excess": lambda: D.loop_shaping(LOOP, 0.5, PROPORTIONAL, excess=NUMBER),
    "Spec": lambda: D.Spec(modulus_margin=NUMBER),
    "tune": lambda: D.tune(LOOP, [0.5], D.Spec(modulus_margin=0.3), bounds={"P": (0.0, NUMBER)}),
    "PID": lambda: PID(NUMBER),
    "Loop": lambda: Loop(CausalMean(), feedback=NUMBER),
}


def scaling(gain):
    return lambda x: gain * x


@pytest.mark.parametrize("name", REFUSED)
def test_a_complex_value_is_refused_where_only_a_real_one_has_a_meaning(name):
    with pytest.raises(InputError, match=r"real|dtypes are mixed"):
        REFUSED[name]()


def closed_loop(a, gain=0.6):
    """The pole of x' = a x + gain (r - x)."""
    return a - gain


NORM = 1 / (1 - abs(A) ** 2)  # sum |A|^2k
SYSTEMS = {
    "h2_norm": (S.h2_norm, NORM**0.5),
    "hinf_norm": (S.hinf_norm, 1 / (1 - abs(A))),
    "peak_gain": (lambda g: S.peak_gain(g).value, 1 / (1 - abs(A))),
    "hankel_singular_values": (S.hankel_singular_values, [NORM]),
    "controllability_gramian": (S.controllability_gramian, [[NORM]]),
    "observability_gramian": (S.observability_gramian, [[NORM]]),
    "disk_margin": (lambda g: S.disk_margin(g).attained, 1 / np.max(np.abs(1 / (1 + at(GRID)) - 0.5))),
    "circle_criterion": (lambda g: S.circle_criterion(g, -0.1, 0.1).gain, 0.1 / (1 - abs(A))),
    "sector_limit": (lambda g: S.sector_limit(g, -0.2), None),
}


@pytest.mark.parametrize("system", [state_space, lambda: TUPLE])
@pytest.mark.parametrize("name", SYSTEMS)
def test_a_quantity_of_complex_systems_is_that_of_the_definition_and_of_the_real_form(name, system):
    quantity, expected = SYSTEMS[name]
    value = quantity(system())
    if expected is not None:
        assert_allclose(value, expected, rtol=1e-6)
    if np.ndim(value) == 0:  # the real form has two channels, each norm of a channel twice
        share = 2**0.5 if name == "h2_norm" else 1.0
        assert_allclose(quantity(realified()), share * value, rtol=1e-6)


COMPUTED = {
    "poles": (lambda: L.poles(MATRIX), [A, 0.3]),
    "frequency_response": (lambda: F.frequency_response(state_space(), [0.1]).complex, [at(np.exp(0.1j))]),
    "frequency_response of a fraction": (
        lambda: F.frequency_response(fraction(), [0.1]).complex, [(1 + 0.3j) / (np.exp(0.1j) - 0.5)],
    ),
    "numerical_radius": (lambda: S.numerical_radius(np.array([[A]])), abs(A)),
    "numerical_abscissa": (lambda: S.numerical_abscissa(MATRIX), np.linalg.eigvalsh(MATRIX + MATRIX.conj().T)[-1] / 2),
    "pseudospectral_radius": (lambda: S.pseudospectral_radius(np.array([[A]]), 0.1), abs(A) + 0.1),
    "pseudospectral_abscissa": (lambda: S.pseudospectral_abscissa(np.array([[A]]), 0.1), A.real + 0.1),
    "pseudospectrum": (lambda: S.pseudospectrum(np.array([[A]]), [1j]), [abs(A - 1j)]),
    "henrici_departure": (lambda: S.henrici_departure(MATRIX), 0.1),
    "distance_to_instability": (lambda: S.distance_to_instability(np.array([[A]])), 1 - abs(A)),
    "kreiss_constant": (lambda: S.kreiss_constant(np.array([[A]])), 1.0),
    "transient_growth": (lambda: S.transient_growth(np.array([[A]]), 3).norms, abs(A) ** np.arange(4)),
    "open_loop_pole": (lambda: L.open_loop_pole(LOOP, NUMBER), A),
    "mode": (lambda: L.mode(LOOP, NUMBER).A, real_form(np.array([[closed_loop(A)]]))),
    "loop_transfer": (lambda: L.loop_transfer(LOOP, NUMBER).A, real_form(np.array([[A]]))),
    "closed_loop_poles": (lambda: S.closed_loop_poles(PROPORTIONAL, NUMBER), [closed_loop(A)]),
    "spectral_radius": (lambda: S.spectral_radius(PROPORTIONAL, NUMBER), abs(closed_loop(A))),
    "is_stable": (lambda: S.is_stable(PROPORTIONAL, [A, 0.5 + 1.0j]), [True, False]),
    "root_locus": (lambda: S.root_locus(LOOP, "kp", NUMBER, [0.0, 0.1])[:, 0], [A, A - 0.1]),
    "pole_sensitivity": (lambda: S.pole_sensitivity(LOOP, NUMBER, ["kp"]).poles, [closed_loop(A)]),
    "sensitivity": (
        lambda: F.sensitivity(LOOP, NUMBER)(1.0), np.linalg.inv(np.eye(2) + 0.6 * real_form(np.array([[at(1.0)]]))),
    ),
    "complementary_sensitivity": (
        lambda: F.complementary_sensitivity(LOOP, NUMBER)(1.0), real_form(np.array([[0.6 / (1 - closed_loop(A))]])),
    ),
    "gang_of_four": (
        lambda: F.gang_of_four(LOOP, NUMBER)["PS"](1.0), real_form(np.array([[1 / (1 - closed_loop(A))]])),
    ),
    "sensitivity_response": (
        lambda: F.sensitivity_response(PROPORTIONAL, NUMBER, [0.1]), [1 / (1 + 0.6 * at(np.exp(0.1j)))],
    ),
    "sensitivity_peaks": (
        lambda: F.sensitivity_peaks(PROPORTIONAL, NUMBER).ms, np.max(np.abs(1 / (1 + 0.6 * at(GRID)))),
    ),
    "gain_radius": (
        lambda: S.gain_radius(LOOP, ["kp"], [NUMBER], [0.6]), abs(closed_loop(A)),
    ),
    "gain_intervals": (
        lambda: S.gain_intervals(LOOP, AXES, [NUMBER], 0.6)[0][0], 0.0,  # an integral that is added must be positive
    ),
    "largest_stable_step": (
        lambda: S.largest_stable_step(PROPORTIONAL, NUMBER), 2 * 1.1 / (1.1**2 + 0.2**2),  # |1 + h (a - 1 - 0.6)| = 1
    ),
    "describing_function": (lambda: S.describing_function(PHI["linear"], 1.0), A),
    # A pole 1 + g (lambda - 1): |.| of it, 1 where lambda = 1 + (e^{iw} - 1)/g, and the disk |lambda - 1 + 1/g| < 1/g.
    "pass_poles": (lambda: abs(S.pass_poles(PID(0.6), NUMBER)).max(), abs(1 + 0.6 * (A - 1))),
    "passes_stable": (lambda: S.passes_stable(PID(0.6), NUMBER), abs(1 + 0.6 * (A - 1)) < 1),
    "pass_boundary": (lambda: S.pass_boundary(PID(0.6), [0.3])[0], 1 + (np.exp(0.3j) - 1) / 0.6),
    "stable_gains": (lambda: S.stable_gains(PID(1.0), [NUMBER])[0][1], 2 * 0.5 / abs(1 - A) ** 2),
    "stable_recalls": (
        lambda: S.stable_recalls(PID(0.6), [NUMBER])[0][1], 0.5 - 1 + 1 / 0.6 + np.sqrt(1 / 0.36 - 0.04),
    ),
    "odd_number_limit": (lambda: S.odd_number_limit([NUMBER, np.complex128(2.0)]).above.tolist(), [2.0]),
    "performance": (lambda: D.performance(LOOP, [NUMBER]).radius, [abs(closed_loop(A))]),
    "judge": (lambda: D.judge(LOOP, [NUMBER], improve=False).performance.radius, [abs(closed_loop(A))]),
}  # fmt: skip


@pytest.mark.parametrize("name", COMPUTED)
def test_a_complex_value_is_computed_with(name):
    calculate, expected = COMPUTED[name]
    assert_allclose(calculate(), expected, rtol=1e-6, atol=1e-9)


ELSEWHERE = {"gain_lines": "the next test", "judge_published": "judge for each of several presets"}


def test_every_public_function_is_in_a_table():
    tables = {name.split()[0] for name in [*REAL_SISO, *REFUSED, *SYSTEMS, *COMPUTED]}
    functions = {n for room in (L, S, F, D) for n in room.__all__ if inspect.isfunction(getattr(room, n))}
    assert functions - tables == ELSEWHERE.keys()


@pytest.mark.parametrize("a", [A, 0.5])
def test_a_complex_mode_has_no_line_of_gains_at_minus_one(a):
    lines = S.gain_lines(LOOP, AXES, np.complex128(a))
    assert_allclose(lines[0], (0.0, 1.0, 0.0))  # ki = 0: the integrator is free
    # At z = -1: -1 - a + kp + ki/2 = 0, which no real gains solve for a complex a.
    assert len(lines) == (1 if a == A else 2)


@pytest.mark.parametrize("axes", [AXES, ("kp", "kd")])
def test_on_the_gain_boundary_of_a_complex_mode_lies_a_pole(axes):
    omega = np.array([0.3, -1.2])
    for gains, w in zip(S.gain_boundary(LOOP, axes, NUMBER, omega), omega, strict=True):
        moved = PID(**{"kp": 0.6, **dict(zip(axes, gains, strict=True))})
        assert np.min(np.abs(S.closed_loop_poles(moved, A) - np.exp(1j * w))) < 1e-9


def test_a_complex_type_of_real_values_is_real():
    assert require_real("x", np.array([1.0 + 0.0j])).dtype == np.float64
    assert_allclose(S.kaplan_yorke_dimension(np.array([0.4192 + 0j, -1.6232])), 1.2583, atol=1e-4)
    assert like(np.array([1.0 + 0.0j]), np.empty(0)).dtype == np.float64


@pytest.mark.parametrize("template", [np.empty(0), torch.empty(0)])
@pytest.mark.parametrize("make", [np.array, torch.tensor])
def test_a_conversion_drops_no_imaginary_part(make, template):
    with pytest.raises(InputError, match="must be real, got complex values"):
        like(make([A]), template)
    assert like(make([A]), template + 0j)[0].imag == pytest.approx(0.2)


@pytest.mark.parametrize("value", ["1.5", None, [None, 1.0], [[1.0], [1.0, 2.0]]])
def test_what_is_no_array_of_numbers_is_named(value):
    with pytest.raises(TypeError, match=r"^gains must be a number or an array of numbers, got "):
        require_real("gains", value)
