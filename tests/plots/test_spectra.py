"""Spectra of matrices, recordings and eigenvalues over a stable region; what cannot be drawn is refused."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from ctrlattn import InputError, InputTypeError, plots, presets, signals


def matrices(causal, n=6):
    scores = np.random.default_rng(1).random((2, 3, n, n))
    scores = np.tril(scores) if causal else scores
    return scores / scores.sum(-1, keepdims=True)


def recording(causal):
    return signals.dataset(
        {"attention": matrices(causal)}, attrs={"model": "toy", "norm": "pre", "causal": int(causal)}
    )


@pytest.mark.parametrize("given", [matrices(True), recording(True), [recording(True)] * 2, {"one": matrices(True)}])
def test_real_spectra_are_counted(given):
    ax = plots.spectra(given)
    counted = sum(bar.get_height() for bar in ax.patches)
    assert counted == 36 * (2 if isinstance(given, list) else 1)
    assert ax.get_xlabel() == "Eigenvalue a of attention"


def test_complex_spectra_lie_in_the_plane_at_their_eigenvalues():
    given = matrices(False)
    ax = plots.spectra(given, presets.get("pidformer-printed"))
    x, y = ax.lines[-1].get_data()
    expected = np.linalg.eigvals(given).ravel()
    np.testing.assert_allclose(np.sort_complex(x + 1j * y), np.sort_complex(expected), atol=1e-10)
    assert len(ax.patches) == 1  # the stable region


def test_it_draws_into_given_axes_and_takes_torch_and_one_token():
    torch = pytest.importorskip("torch")
    ax = Figure().add_subplot()
    assert plots.spectra(torch.eye(3), presets.get("neutreno"), ax=ax, title="$x$") is ax
    assert plots.spectra(np.ones((1, 1))).get_xlabel() == "Eigenvalue a of attention"


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ("net", InputTypeError, "got str"),
        (None, InputTypeError, "got NoneType"),
        ([], InputError, "no eigenvalue"),
        ({}, InputError, "empty mapping"),
        (np.ones((2, 3)), InputError, r"square, \(..., n, n\), got shape \(2, 3\)"),
        (np.full((2, 2), np.nan), InputError, "finite"),
        ([[1.0], [1.0, 2.0]], InputTypeError, "got list"),
    ],
)
def test_what_has_no_spectrum_is_refused(given, error, words):
    with pytest.raises(error, match=words):
        plots.spectra(given)


def test_a_recording_without_attention_and_a_loop_with_vectors_are_refused():
    from dataclasses import replace

    with pytest.raises(InputError, match="holds other and no attention"):
        plots.spectra(recording(True).rename(attention="other"))
    with pytest.raises(InputError):
        plots.spectra(matrices(True), replace(presets.get("softmax"), skip=np.ones(3)))


def test_each_network_has_its_row_and_each_share_its_words():
    loops = {name: presets.get(name) for name in ("softmax", "neutreno", "pidformer-printed", "pidformer-ema")}
    shares = {name: {"causal": 0.25, "both ways": 0.004} for name in loops}
    given = {"causal": np.linspace(0, 1, 9), "both ways": 0.3 * np.exp(1j * np.arange(9))}
    fig = plots.spectra_by_network(given, loops, shares)
    assert len(fig.axes) == 2 + 4
    words = " ".join(text.get_text() for ax in fig.axes for text in (*ax.texts, ax.title, ax._left_title))
    assert words.count("25 % of modes unstable") == 4
    assert words.count("0.4 % unstable") == 4
    assert "causal: 9 modes" in words
    assert "both ways: 9 modes" in words
