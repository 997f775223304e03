#!/usr/bin/env bash
# Surprise: python-control 0.10.2 calls a norm infinite as soon as a pole is within 1e-5 of the unit circle
# (np.isclose), though the pole is certain. For G = 1e-6/(z - 0.999995), H2 is 1e-6/sqrt(1 - p^2) = 3.16e-4 by hand.
# What follows: an "inf" of a peer beside a slow memory is no evidence that a pole lies on the circle.
# Run: bash findings/infinite_norm_of_a_slow_memory.sh     (exit 0 where the surprise is there)
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "control==0.10.2" "numpy==2.4.6" "scipy==1.17.1"
"$folder/venv/bin/python" - <<'PY'
import math, warnings
import control

warnings.simplefilter("ignore")
p, b = 0.999995, 1e-6
peer = float(control.system_norm(control.ss(control.tf([b], [1, -p], 1)), 2, print_warning=False))
hand = b / math.sqrt(1 - p * p)
print(f"python-control {control.__version__}: H2 = {peer}; by hand {hand:.6g}")
if not (math.isinf(peer) and math.isfinite(hand)):
    raise SystemExit('the surprise is gone')  # exit status 1
PY
