#!/usr/bin/env bash
# Surprise: scipy.signal 1.17 drops a leading coefficient of a numerator below 1e-14, however large the others are. For
# G = 1e-15 (z + 1)/(z - 0.5) both coefficients are 1e-15, and the first goes: G(1) is 2e-15 where it is 4e-15. The same
# system in other units, 1e15 times as large, keeps it. A BadCoefficients warning names bad conditioning, and the system
# has none.
# What follows: scale a system before it becomes a dlti or passes normalize, tf2ss or dlsim, and scale it back behind
# them.
# Run: bash findings/small_coefficients_of_dlti.sh     (exit 0 where the surprise is there)
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "numpy==2.4.6" "scipy==1.17.1"
"$folder/venv/bin/python" - <<'PY'
import warnings
import numpy as np
import scipy
from scipy import signal


def at_rest(unit):
    """G(1) of unit (z + 1)/(z - 0.5), as a share of the unit."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        system = signal.dlti([unit, unit], [1.0, -0.5], dt=1.0)
    return float(np.polyval(system.num, 1.0) / np.polyval(system.den, 1.0) / unit), {str(w.message) for w in told}


(large, calm), (small, told) = at_rest(1.0), at_rest(1e-15)
print(f"scipy {scipy.__version__}: gain at rest over the unit: {large} for the unit 1, {small} for the unit 1e-15")
print(f"warnings: {sorted(calm)}, {sorted(told)}")
if not (abs(large - 4) < 1e-9 and abs(small - 2) < 1e-9):
    raise SystemExit('the surprise is gone')  # exit status 1
PY
