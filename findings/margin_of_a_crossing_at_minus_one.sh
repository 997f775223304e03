#!/usr/bin/env bash
# Surprise: python-control 0.10.2 does not see the crossing of a sampled loop that lies at z = -1. L = 0.5/z has L(-1) =
# -0.5, so that its gain margin is 2, and 1 + 2.01 L has a root outside the circle. margin says inf.
# What follows: z = -1 is where most sampled loops cross the negative axis; ask for L(-1) by hand beside margin.
# Run: bash findings/margin_of_a_crossing_at_minus_one.sh     (exit 0 where the surprise is there)
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "control==0.10.2" "numpy==2.4.6" "scipy==1.17.1"
"$folder/venv/bin/python" - <<'PY'
import math
import control

L = control.tf([0.5], [1, 0], 1)
told = float(control.margin(L)[0])
inside, outside = (float(abs(control.feedback(k * L, 1).poles()).max()) for k in (1.99, 2.01))
print(f"python-control {control.__version__}: gain margin {told}; largest pole {inside:.3f} at gain 1.99, "
      f"{outside:.3f} at gain 2.01")
if not (math.isinf(told) and inside < 1 < outside):
    raise SystemExit('the surprise is gone')  # exit status 1
PY
