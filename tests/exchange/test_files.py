"""Files of systems: no digit changes on the way, and Octave runs the script."""

import json
import shutil
import subprocess

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.io import savemat

from ctrlattn import InputError, mode, presets
from ctrlattn.exchange import System, as_system, load, save
from ctrlattn.linear import poles

OMEGA = np.linspace(0.01, np.pi, 7)


def systems():
    """Random systems, real and complex, of several inputs, marginal, badly scaled, static."""
    made = []
    for seed in range(24):
        rng = np.random.default_rng(seed)
        n, m, p = rng.integers(0, 6), rng.integers(1, 4), rng.integers(1, 4)
        a, b, c, d = (rng.standard_normal(shape) for shape in ((n, n), (n, m), (p, n), (p, m)))
        if seed % 4 == 1:
            a, b, c, d = (x + 1j * rng.standard_normal(x.shape) for x in (a, b, c, d))
        if seed % 4 == 2 and n:
            a = a / np.max(np.abs(np.linalg.eigvals(a)))  # a pole on the unit circle
        if seed % 4 == 3:
            scale = 10.0 ** rng.uniform(-8, 8, n)
            a, b, c = a * scale / scale[:, None], b / scale[:, None] * 1e-5, c * scale
        made.append(System(a, b, c, d, dt=[1.0, -1.0, 0.25][seed % 3], name="plant"))
    return made


@pytest.mark.parametrize("ending", ["json", "mat"])
@pytest.mark.parametrize("number", range(24))
def test_a_round_trip_changes_no_digit(ending, number, tmp_path):
    system = systems()[number]
    save(tmp_path / f"a.{ending}", system)
    back = load(tmp_path / f"a.{ending}")
    for before, after in zip(system.matrices, back.matrices, strict=True):
        assert_array_equal(before, after)
    assert (back.dt, back.inputs, back.outputs, back.states) == (
        system.dt, system.inputs, system.outputs, system.states,
    )  # fmt: skip
    with np.errstate(all="ignore"):
        assert_allclose(back.response(OMEGA), system.response(OMEGA), rtol=1e-12)


def test_what_other_tools_put_into_a_mat(tmp_path):
    """Variables and structs, row and column polynomials, cells of several inputs."""
    num, den, z = [0.5, 0.1], [1.0, -0.5, 0.06], np.exp(1j * OMEGA)
    expected = np.polyval(num, z) / np.polyval(den, z)
    for content in (
        {"num": num, "den": den, "Ts": 1},
        {"num": np.array(num)[:, None], "den": np.array(den)[:, None], "dt": 1.0},
        {"z": np.roots(num), "p": np.roots(den), "k": 0.5, "Ts": 1},
        {"G": {"num": num, "den": den, "Ts": 1}},
        {"G": {"num": num, "den": den, "tsam": 1}, "other": 3.0},
    ):
        savemat(tmp_path / "a.mat", content)
        assert_allclose(load(tmp_path / "a.mat").response(OMEGA)[0, 0], expected, rtol=1e-12)
    savemat(tmp_path / "a.mat", {"G": {"num": num, "den": den, "Ts": 1}, "H": {"num": [2.0], "den": [1.0], "Ts": 1}})
    assert load(tmp_path / "a.mat", name="H").response([0.1]).item() == 2.0
    cells = np.empty((1, 2), dtype=object)
    dens = cells.copy()
    cells[0, 0], cells[0, 1] = np.array([[1.0]]), np.array([[2.0, 0.0]])
    dens[0, 0], dens[0, 1] = np.array([[1.0, -0.5]]), np.array([[1.0, 0.25]])
    savemat(tmp_path / "a.mat", {"num": cells, "den": dens, "Ts": 1})
    assert_allclose(load(tmp_path / "a.mat").response(OMEGA)[0], [1 / (z - 0.5), 2 * z / (z + 0.25)], rtol=1e-12)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"num": [1.0], "den": [1.0, 1.0], "Ts": 0}, r"a\.mat: the system is continuous \(its sampling time is 0\)"),
        ({"A": 0.5, "B": 1.0, "C": 1.0, "D": 0.0}, "the sampling time is missing"),
        ({"x": 1.0, "Ts": 1}, "a system has A, B, C, D"),
        ({"x": 1.0}, "a system has A, B, C, D, or num and den, or z, p and k; got x"),
        ({"A": np.eye(2), "B": 1.0, "C": 1.0, "D": 0.0, "dt": 1}, "A, B, C, D must be"),
        ({"A": "text", "B": 1.0, "C": 1.0, "D": 0.0, "dt": 1}, "A must be numbers"),
        ({"z": [], "p": [0.5], "k": [1.0, 2.0], "dt": 1}, "k must be one number"),
    ],
)
def test_a_mat_without_a_discrete_system(content, words, tmp_path):
    savemat(tmp_path / "a.mat", content)
    with pytest.raises(InputError, match=words):
        load(tmp_path / "a.mat")


def test_files_that_hold_no_system(tmp_path):
    (tmp_path / "a.mat").write_bytes(b"hello")
    (tmp_path / "b.mat").write_bytes(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + bytes(512))
    (tmp_path / "a.json").write_text("[1]")
    (tmp_path / "b.json").write_text('{"format": "ctrlattn system 1", "A": [[1]]}')
    (tmp_path / "c.json").write_text("{")
    for name, words in {
        "a.mat": r"not a \.mat file that can be read", "b.mat": r"MATLAB 7\.3 file.*-v7",
        "a.json": "exchange.save wrote",
        "b.json": "the matrix A is not a list", "c.json": "not JSON", "d.mat": "no such file",
        "a.npz": "unknown ending",
    }.items():  # fmt: skip
        with pytest.raises(InputError, match=words):
            load(tmp_path / name)


def test_what_is_not_written(tmp_path):
    system = System([[0.5]], [[1.0]], [[1.0]], [[0.0]])
    with pytest.raises(InputError, match=r"unknown ending of a system file '\.slx': known are \.m, \.mat, \.json"):
        save(tmp_path / "a.slx", system)
    for name in ("2nd", "A", "a b", "x" * 64):
        with pytest.raises(InputError, match="no variable of MATLAB"):
            save(tmp_path / "a.m", system, name=name)
    with pytest.raises(InputError, match="is continuous"):
        save(tmp_path / "a.m", ([1.0], [1.0, 1.0], 0))
    assert not list(tmp_path.iterdir())


def test_json_is_plain(tmp_path):
    save(tmp_path / "a.json", presets.get("pidformer-ema"), a=0.5)
    content = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))
    assert content["outputs"] == ["state"]
    assert_allclose(
        np.reshape(content["A"]["real"], content["A"]["shape"]), mode(presets.get("pidformer-ema"), 0.5).A, rtol=0
    )


def octave(script):
    program = shutil.which("octave")
    if program is None:
        pytest.skip("octave is not installed")
    done = subprocess.run(
        [program, "-qf", "--no-gui", "--eval", script], capture_output=True, text=True, timeout=120, check=False
    )
    if "package control" in done.stderr or "control package" in done.stderr:
        pytest.skip("the control package of Octave is not installed")
    assert done.returncode == 0, done.stderr
    return done.stdout


def sorted_poles(values):
    return sorted(np.asarray(values, dtype=complex), key=lambda z: (round(z.real, 9), round(z.imag, 9)))


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["m", "mat"])
def test_octave_has_the_same_poles_and_response(ending, tmp_path):
    loop = presets.get("pidformer-ema")
    for k, (given, options) in enumerate(
        [
            (loop, {"a": 0.5}),
            (loop, {"a": 0.3 + 0.4j}),
            (([1.0, 0.2], [1.0, -1.6, 0.9], 1), {}),
            (systems()[3], {}),  # scaled badly
            (systems()[4], {}),
        ]
    ):
        system = save(tmp_path / f"sys{k}.{ending}", given, **options, name="G")
        read = f"sys{k}" if ending == "m" else f"load('sys{k}.mat'); pkg load control; G = ss(A, B, C, D, dt)"
        numbers = (
            f"cd('{tmp_path}'); {read}; p = pole(G); H = freqresp(G, 0.7 / abs(dt)); printf('|');"
            "printf('%.17g ', real(p), imag(p)); printf('|'); printf('%.17g ', real(H), imag(H));"
            "printf('|%s ', inputs{:});"
        )
        _, p, h, *names = octave(numbers).split("|")
        p, h = (np.array(text.split(), dtype=float).reshape(2, -1) for text in (p, h))
        assert_allclose(sorted_poles(p[0] + 1j * p[1]), sorted_poles(np.linalg.eigvals(system.A)), atol=1e-9)
        response = system.response([0.7])[:, :, 0].T.ravel()
        assert_allclose(h[0] + 1j * h[1], response, rtol=1e-9, atol=1e-12 * np.abs(response).max())
        assert tuple(name.strip() for name in names) == system.inputs


@pytest.mark.slow
def test_octave_keeps_the_complex_matrices(tmp_path):
    system = systems()[5]
    assert system.is_complex
    save(tmp_path / "plant.m", system, name="plant")
    text = octave(f"cd('{tmp_path}'); plant; printf('|'); printf('%.17g ', real(A), imag(A));")
    real, imaginary = np.array(text.split("|")[1].split(), dtype=float).reshape(2, -1)
    assert_array_equal(real + 1j * imaginary, system.A.T.ravel())


def test_the_toolbox_takes_what_was_read(tmp_path):
    save(tmp_path / "a.mat", presets.get("pidformer-ema"), a=0.5)
    assert_allclose(
        np.sort_complex(np.linalg.eigvals(load(tmp_path / "a.mat").A)),
        np.sort_complex(poles(mode(presets.get("pidformer-ema"), 0.5))),
        rtol=1e-12,
    )
    assert as_system(load(tmp_path / "a.mat").to_control()).inputs == ("reference",)
