#!/usr/bin/env bash
# Surprise: the coefficients of a sampled plant, as doubles, are not that plant. Four equal lags 1/(s + 1)^4 have the
# gain 1 at rest; sampled at dt = 0.0002 their state space has it within 1e-11. The transfer function that
# python-control 0.10.2 makes of the state space, read as the exact numbers that its doubles are, has the gain 3.2857.
# What follows: no algorithm gets the plant back from such a transfer function. Keep sampled plants as state spaces.
# Run: bash findings/coefficients_of_a_sampled_plant.sh      (exit 0 where the surprise is there)
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "control==0.10.2" "numpy==2.4.6" "scipy==1.17.1"
"$folder/venv/bin/python" - <<'PY'
from fractions import Fraction
import control
import numpy as np

plant = control.sample_system(control.ss(control.tf([1], [1, 4, 6, 4, 1])), 0.0002, "zoh")
state_space = float((plant.C @ np.linalg.solve(np.eye(4) - plant.A, plant.B) + plant.D)[0, 0])
fraction = control.tf(plant)
top, bottom = (sum(map(Fraction, p[0][0].tolist())) for p in (fraction.num, fraction.den))
read = float(top / bottom)  # G(1), without any rounding
print(f"control {control.__version__}: gain at rest {state_space:.9f} of the state space, {read:.6f} of coefficients")
if not (abs(state_space - 1) < 1e-6 and abs(read - 1) > 1):
    raise SystemExit('the surprise is gone')  # exit status 1
PY
