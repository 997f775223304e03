#!/usr/bin/env bash
# Surprise: the coefficients of a sampled plant, as doubles, are not that plant. Six lags over two decades, sampled at a
# tenth of the fastest, have the largest gain 1/3 by hand, and their state space has it. The transfer function that
# python-control makes of them, read exactly, has 0.3349; four units in the last place move it from 0.332 to 0.337.
# What follows: no algorithm gets more from such a transfer function. A table keeps such plants as state spaces, and
# tests compare with what the doubles say, within what their last digits leave open.
# Run: bash findings/coefficients_of_a_sampled_plant.sh      (needs the test extra; exit 0 where the surprise is there)
set -euo pipefail
cd "$(dirname "$0")/.."
PYTHONPATH="tests/oracles:${PYTHONPATH:-}" "${PYTHON:-python}" - <<'PY'
import exact, numpy as np, systems

plant = "six lags over two decades"
whole = exact.hinf(exact.line(systems.sampled(plant, 0.1, "dense")))
fraction = systems.sampled(plant, 0.1, "tf")
read = exact.hinf(exact.line(fraction))
rng = np.random.default_rng(0)
moved = [exact.hinf(exact.line(systems.moved(fraction, rng))) for _ in range(8)]
moved = [value for value in moved if np.isfinite(value)]
print(f"state space {whole:.6g}; coefficients, read exactly {read:.6g}; last digits moved {min(moved):.6g} to {max(moved):.6g}")
raise SystemExit(not (abs(read / whole - 1) > 1e-4 and max(moved) / min(moved) > 1.001))
PY
