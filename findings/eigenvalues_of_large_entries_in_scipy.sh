#!/usr/bin/env bash
# Surprise: scipy.linalg.eigvals (1.17.1) of diag(3e150, 1e150) is about (1.5e138, 5.0e137), without a warning; numpy's
# is right, and so is scipy.linalg.svdvals. Entries above 1e138 or below 1e-138 are scaled before the iteration and not
# scaled back after it. diag(3e-150, 1e-150) has the same fault in the other direction.
# What follows: matrices of such entries are scaled by a power of two first, or given to numpy.
# Run: bash findings/eigenvalues_of_large_entries_in_scipy.sh      (exit 0 where the surprise is there)
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "numpy==2.4.6" "scipy==1.17.1"
"$folder/venv/bin/python" - <<'PY'
import numpy as np
import scipy
import scipy.linalg

shares = []
for size in (1e150, 1e-150):
    matrix = np.diag([3 * size, size])
    of_scipy, of_numpy = (float(max(abs(module.eigvals(matrix)))) for module in (scipy.linalg, np.linalg))
    shares.append(of_scipy / of_numpy)
    print(f"scipy {scipy.__version__}: largest eigenvalue of diag(3, 1) {size:g}: {of_scipy:.3g}, numpy {of_numpy:.3g}")
if not (shares[0] < 1e-10 and shares[1] > 1e10):
    raise SystemExit("the surprise is gone")  # exit status 1
PY
