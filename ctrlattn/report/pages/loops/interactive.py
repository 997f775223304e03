"""plotly panes of `ctrlattn report --interactive`; the library is inlined once, so that the page needs no network."""

from typing import TYPE_CHECKING

import numpy as np

from ctrlattn.errors import InputError
from ctrlattn.frequency import sensitivity_response
from ctrlattn.linear import open_loop_pole
from ctrlattn.linear.mode_polynomial import attention_eigenvalue
from ctrlattn.report.pages.loops.average_mode import OMEGA, step_response
from ctrlattn.report.pages.loops.material import Material
from ctrlattn.stability import region_boundary

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


def panes(material: Material) -> dict[str, str]:
    """Return the markup of the panes, by the name of the picture under which each stands.

    Raises
    ------
    InputError
        plotly is not installed.
    """
    try:
        import plotly.graph_objects as go
    except ImportError as error:
        raise InputError('--interactive needs plotly: pip install "ctrlattn[interactive]"') from error
    figures = {"spectra": _plane(material, go.Figure()), "time-average": _steps(material, go.Figure())}
    if material.controlled:
        figures["bode-s"] = _sensitivity(material, go.Figure())
    return {
        name: figure.to_html(full_html=False, include_plotlyjs=i == 0, config={"displaylogo": False})
        for i, (name, figure) in enumerate(figures.items())
    }


def _plane(material: Material, figure: "Figure") -> "Figure":
    angle = np.linspace(-np.pi, np.pi, 721)
    figure.add_scatter(x=np.cos(angle), y=np.sin(angle), mode="lines", name="unit circle", line={"color": "#888888"})
    for name, loop in material.controlled.items():
        if loop.feedback == 0:
            continue
        # The number of points is even, so that none falls on z = 1, where an integrator is infinite.
        boundary = region_boundary(loop.controller, np.linspace(-np.pi, np.pi, 1440))
        a = attention_eigenvalue(loop, boundary)
        a = np.where(np.abs(a) < 4, a, np.nan)
        figure.add_scatter(x=a.real, y=a.imag, mode="lines", name=f"region boundary, {name}")
    for name, modes in material.spectra.items():
        figure.add_scattergl(x=modes.real, y=modes.imag, mode="markers", name=f"modes of {name}", marker={"size": 4})
    figure.update_layout(xaxis_title="Re a", yaxis_title="Im a", height=520)
    return figure.update_yaxes(scaleanchor="x")


def _steps(material: Material, figure: "Figure") -> "Figure":
    for name, loop in material.linear.items():
        figure.add_scatter(
            y=step_response(loop, material.average_mode, material.layers), mode="lines+markers", name=name
        )
    return figure.update_layout(xaxis_title="layer", yaxis_title="response to a unit reference", height=420)


def _sensitivity(material: Material, figure: "Figure") -> "Figure":
    for name, loop in material.controlled.items():
        s = sensitivity_response(loop.controller, open_loop_pole(loop, material.average_mode), OMEGA)
        with np.errstate(divide="ignore"):
            figure.add_scatter(x=OMEGA, y=20 * np.log10(np.abs(s)), mode="lines", name=name)
    return figure.update_layout(xaxis_title="frequency (rad/layer)", yaxis_title="|S| (dB)", height=420)
