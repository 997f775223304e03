#!/usr/bin/env bash
# Surprise: disk_margins of python-control 0.10.2 returns the least over the frequencies that it is given, and does not
# refine them, with no warning. For 0.5/((s^2 + 0.04 s + 1)(s + 1)), fifty frequencies over four decades give a disk
# margin of 0.79, where 5,000 give 0.73; with five it is 1.71, and the "guaranteed" gain margin 22 dB where 6.7 dB hold.
# What follows: the number is an upper bound of the disk margin. A light resonance needs a grid of its own.
# Run: bash findings/disk_margin_of_a_grid.sh     (exit 0 where the surprise is there)
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "control==0.10.2" "numpy==2.4.6" "scipy==1.17.1"
"$folder/venv/bin/python" - <<'PY'
import warnings
import control
import numpy as np

L = control.tf([0.5], [1, 0.04, 1]) * control.tf([1], [1, 1])
with warnings.catch_warnings(record=True) as told:
    warnings.simplefilter("always")
    counts = (5, 50, 5000)
    margins = [tuple(map(float, control.disk_margins(L, np.logspace(-2, 2, n))[:2])) for n in counts]
for n, (disk, gain) in zip(counts, margins):
    print(f"python-control {control.__version__}: {n} frequencies: disk margin {disk:.3f}, gain margin {gain:.1f} dB")
print(f"warnings: {len(told)}")
if not (margins[0][0] > 2 * margins[2][0] and margins[1][0] > 1.05 * margins[2][0] and not told):
    raise SystemExit('the surprise is gone')  # exit status 1
PY
