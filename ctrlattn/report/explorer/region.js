// alpha(w) = e^{iw} + C(e^{iw}): the outline of the stable modes in the plane of attention eigenvalues a.
//
// No function here touches the page. The curve winds around alpha as often as p(z) has more zeros inside the circle than
// C has poles there (argument principle), so the stable set is where it winds often enough: no grid decides.
"use strict";

const region = (() => {
  const n = typeof module !== "undefined" ? require("./numerics.js") : numerics;
  const FAR = 1e9; // where the curve closes on the other side of an integrator
  const BESIDE = 1e-4; // how far beside the outline its two sides are judged

  // Angles near 0 lie close together, since an integrator sends the curve to infinity there.
  const ANGLES = [
    ...Array.from({ length: 120 }, (_, k) => 1e-8 * Math.pow(0.05 / 1e-8, k / 120)),
    ...Array.from({ length: 601 }, (_, k) => 0.05 + ((Math.PI - 0.05) * k) / 600),
  ];

  const LAW = ["kp", "ki", "kd", "form", "ema", "skip", "feedback"], MOST = 16; // laws whose curves are remembered
  /** A function of the law that is computed once for each of the last laws: a page asks for a curve several times. */
  function remembered(make) {
    const known = new Map();
    return (law) => {
      const key = LAW.map((name) => law[name]).join();
      if (!known.has(key)) {
        if (known.size >= MOST) known.delete(known.keys().next().value);
        known.set(key, make(law));
      }
      return known.get(key);
    };
  }

  /** The curve in the a-plane for w in (0, pi], as flat arrays; its mirror image is the other half. */
  const curve = remembered((law) => {
    const x = new Float64Array(ANGLES.length), y = new Float64Array(ANGLES.length);
    ANGLES.forEach((w, k) => {
      const a = n.attentionEigenvalue(law, n.regionBoundary(law, w));
      x[k] = a[0];
      y[k] = k === ANGLES.length - 1 ? 0 : a[1]; // sin(pi) is not 0 in doubles
    });
    return { x, y };
  });

  /** Poles of the controller inside the circle; that of an exact integral lies on it. */
  function inside(law) {
    const memory = law.kd === 0 ? 0 : 1;
    return law.form === "printed" ? memory : 2 * memory + (law.ki === 0 ? 0 : 1);
  }

  /** For each height, ascending Im a: the spans [low, high] of Re a whose modes are stable. */
  function spans(law, heights) {
    if (law.feedback === 0) {
      const all = n.verdicts(law, [0], [0], [0])[0] === 0;
      return heights.map(() => (all ? [[-Infinity, Infinity]] : []));
    }
    const half = curve(law), m = half.x.length, rows = heights.map(() => []);
    const cross = (x1, y1, x2, y2) => {
      if (y1 === y2) return;
      const up = y2 > y1, low = up ? y1 : y2, high = up ? y2 : y1;
      for (let k = first(heights, low); k < heights.length && heights[k] < high; k++) {
        rows[k].push([x1 + ((heights[k] - y1) * (x2 - x1)) / (y2 - y1), up ? 1 : -1]);
      }
    };
    for (let k = 0; k + 1 < m; k++) {
      cross(half.x[k], half.y[k], half.x[k + 1], half.y[k + 1]);
      cross(half.x[k + 1], -half.y[k + 1], half.x[k], -half.y[k]);
    }
    // From the end with w < 0 to that with w > 0, on the side where z is inside the circle.
    const integrates = law.form === "printed" && law.ki !== 0;
    const side = integrates ? -Math.sign(law.ki) * Math.sign(law.feedback) * FAR : half.x[0];
    cross(side, -half.y[0], side, half.y[0]);
    const wanted = n.fraction(law).den.length - inside(law);
    return rows.map((row) => spansOf(row.sort((p, q) => p[0] - q[0]), wanted));
  }

  function spansOf(crossings, wanted) {
    const result = [];
    let winding = 0;
    crossings.forEach(([x, sign], k) => {
      winding -= sign;
      if (winding === wanted && k + 1 < crossings.length && crossings[k + 1][0] > x) {
        const last = result[result.length - 1];
        if (last && last[1] === x) last[1] = crossings[k + 1][0];
        else result.push([x, crossings[k + 1][0]]);
      }
    });
    return result;
  }

  function first(sorted, value) {
    let low = 0, high = sorted.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (sorted[middle] < value) low = middle + 1; else high = middle;
    }
    return low;
  }

  /** The parts of the curve that bound the stable set: lists of points (Re a, Im a >= 0). */
  const outline = remembered((law) => {
    if (law.feedback === 0) return [];
    const { x, y } = curve(law), m = x.length - 1, re = new Float64Array(2 * m), im = new Float64Array(2 * m);
    for (let k = 0; k < m; k++) {
      const dx = x[k + 1] - x[k], dy = y[k + 1] - y[k], size = Math.hypot(dx, dy) || 1;
      const mx = (x[k] + x[k + 1]) / 2, my = (y[k] + y[k + 1]) / 2, beside = Math.max(BESIDE, size / 50);
      re[2 * k] = mx - (beside * dy) / size; im[2 * k] = my + (beside * dx) / size;
      re[2 * k + 1] = mx + (beside * dy) / size; im[2 * k + 1] = my - (beside * dx) / size;
    }
    const verdict = n.verdicts(law, re, im, new Uint8Array(2 * m)), parts = [];
    let part = null;
    for (let k = 0; k < m; k++) {
      if ((verdict[2 * k] === 0) === (verdict[2 * k + 1] === 0) || !Number.isFinite(x[k])) { part = null; continue; }
      if (!part) parts.push((part = [[x[k], y[k]]]));
      part.push([x[k + 1], y[k + 1]]);
    }
    return parts;
  });

  return { curve, spans, outline };
})();

if (typeof module !== "undefined") module.exports = region;
