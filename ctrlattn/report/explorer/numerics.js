// p(z) = (z - alpha) den(z) + num(z), T = num/p, S = (z - alpha) den/p: one attention mode under C = num/den.
//
// No function here touches the page. Each is the equation of the package under the same name: ctrlattn.controllers.PID,
// ctrlattn.linear.mode_polynomial and ctrlattn.stability.modes. A law is {kp, ki, kd, form, ema, skip, feedback,
// reference_gain}; a complex number is [re, im]; polynomials have descending powers.
"use strict";

const numerics = (() => {
  const BAND = 0.02; // half-width of the settling band, as a share of the change
  const HORIZON = 2000; // layers; no network is so deep, but a lightly damped mode settles slowly
  const MARGINAL = 1e-9; // a pole this close to the unit circle is on it
  const UNSURE = 1e-6; // reflection coefficients this close to 1 leave the verdict to the roots
  const EPS = 2 ** -52;

  const mul = (a, b) => [a[0] * b[0] - a[1] * b[1], a[0] * b[1] + a[1] * b[0]];
  const add = (a, b) => [a[0] + b[0], a[1] + b[1]];
  const sub = (a, b) => [a[0] - b[0], a[1] - b[1]];
  const abs = (a) => Math.hypot(a[0], a[1]);
  function div(a, b) {
    // Smith's rule: no square overflows.
    if (Math.abs(b[0]) >= Math.abs(b[1])) {
      const r = b[1] / b[0], d = b[0] + b[1] * r;
      return [(a[0] + a[1] * r) / d, (a[1] - a[0] * r) / d];
    }
    const r = b[0] / b[1], d = b[0] * r + b[1];
    return [(a[0] * r + a[1]) / d, (a[1] * r - a[0]) / d];
  }

  // ---- the controller ------------------------------------------------------------------------------------------

  function product(p, q) {
    const r = new Array(p.length + q.length - 1).fill(0);
    p.forEach((x, i) => q.forEach((y, j) => { r[i + j] += x * y; }));
    return r;
  }
  function sum(p, q) {
    const n = Math.max(p.length, q.length), r = new Array(n).fill(0);
    p.forEach((x, i) => { r[n - p.length + i] += x; });
    q.forEach((x, i) => { r[n - q.length + i] += x; });
    return r;
  }

  /** (num, den) of C(z), of one length; the memory of a term whose gain is 0 is left out. */
  function fraction(law) {
    const printed = law.form === "printed";
    const terms = printed
      ? [[law.ki, [law.ki, 0], [1, -1]], [law.kd, [law.kd, -law.kd], [1, 0]]]
      : [[law.ki, [law.ki * law.ema], [1, law.ema - 1]], [law.kd, [law.kd, -law.kd], [1, 0, 0]]];
    let num = [law.kp], den = [1];
    for (const [gain, top, bottom] of terms) {
      if (gain === 0) continue;
      num = sum(product(num, bottom), product(top, den));
      den = product(den, bottom);
    }
    return { num: [...new Array(den.length - num.length).fill(0), ...num], den };
  }

  /** alpha = skip + feedback a: the pole of the mode before a controller acts. */
  const openLoopPole = (law, a) => [law.skip + law.feedback * a[0], law.feedback * a[1]];

  /** a = (alpha - skip)/feedback; null where feedback = 0, since every a then has the pole skip. */
  function attentionEigenvalue(law, alpha) {
    if (law.feedback === 0) return null;
    return [(alpha[0] - law.skip) / law.feedback, alpha[1] / law.feedback];
  }

  /** C(e^{iw}); z - 1 is taken without cancellation. */
  function controllerResponse(law, w) {
    const z = [Math.cos(w), Math.sin(w)], half = Math.sin(w / 2);
    const difference = [-2 * half * half, Math.sin(w)]; // z - 1
    let c = [law.kp, 0];
    if (law.ki !== 0) {
      const term = law.form === "printed"
        ? div(mul([law.ki, 0], z), difference)
        : div([law.ki * law.ema, 0], [difference[0] + law.ema, difference[1]]);
      c = add(c, term);
    }
    if (law.kd !== 0) {
      const below = law.form === "printed" ? z : mul(z, z);
      c = add(c, div(mul([law.kd, 0], difference), below));
    }
    return c;
  }

  /** alpha(w) = e^{iw} + C(e^{iw}): the modes for which a closed-loop pole lies on the unit circle at angle w. */
  const regionBoundary = (law, w) => add([Math.cos(w), Math.sin(w)], controllerResponse(law, w));

  // ---- the polynomial, in twice the precision ------------------------------------------------------------------

  function twoSum(a, b) {
    const s = a + b, t = s - a;
    return [s, (a - (s - t)) + (b - t)];
  }
  function split(a) {
    const c = 134217729 * a, high = c - (c - a);
    return [high, a - high];
  }
  function twoProduct(a, b) {
    const p = a * b, [ah, al] = split(a), [bh, bl] = split(b);
    return [p, ((ah * bh - p) + ah * bl + al * bh) + al * bl];
  }
  function plus(x, y) {
    const [s, e] = twoSum(x[0], y[0]), [t, f] = twoSum(x[1], y[1]);
    const [u, v] = twoSum(s, e + t);
    return twoSum(u, v + f);
  }
  function times(x, b) {
    const [p, e] = twoProduct(x[0], b);
    return twoSum(p, e + x[1] * b);
  }

  /** (z - alpha) den + num: each coefficient is {re, im}, a sum of two doubles, since a double root needs both. */
  function modePolynomial(law, alpha) {
    const { num, den } = fraction(law);
    return [...den, 0].map((d, k) => {
      const before = k > 0 ? den[k - 1] : 0;
      const own = k > 0 ? num[k - 1] : 0;
      const re = plus(twoSum(d, own), times([before, 0], -alpha[0]));
      return { re, im: times([before, 0], -alpha[1]) };
    });
  }

  const rounded = (p) => p.map((c) => [c.re[0], c.im[0]]);

  /** p(z) to twice the precision, rounded once. */
  function valueAt(p, z) {
    let re = [0, 0], im = [0, 0];
    for (const c of p) {
      const next = plus(plus(times(re, z[0]), times(im, -z[1])), c.re);
      im = plus(plus(times(re, z[1]), times(im, z[0])), c.im);
      re = next;
    }
    return [re[0], im[0]];
  }

  function slopeAt(q, z) {
    let slope = [0, 0], value = [0, 0];
    for (const c of q) {
      slope = add(mul(slope, z), value);
      value = add(mul(value, z), c);
    }
    return slope;
  }

  /** One round of Aberth's steps; the largest step relative to its root. */
  function aberth(q, z, value) {
    let largest = 0;
    for (let i = 0; i < z.length; i++) {
      const v = value(z[i]);
      if (v[0] === 0 && v[1] === 0) continue;
      const slope = slopeAt(q, z[i]);
      let pull = [0, 0];
      for (let j = 0; j < z.length; j++) {
        const apart = sub(z[i], z[j]);
        if (j !== i && (apart[0] !== 0 || apart[1] !== 0)) pull = add(pull, div([1, 0], apart));
      }
      const below = sub(slope, mul(v, pull));
      if (below[0] === 0 && below[1] === 0) continue;
      const step = div(v, below);
      if (!Number.isFinite(step[0]) || !Number.isFinite(step[1])) continue;
      z[i] = sub(z[i], step);
      largest = Math.max(largest, abs(step) / Math.max(abs(z[i]), Number.MIN_VALUE));
    }
    return largest;
  }

  /** All roots of a monic polynomial, by falling modulus; nan where the residual says that one is none. */
  function roots(p) {
    let n = p.length - 1, zeros = 0;
    const isZero = (c) => c.re[0] === 0 && c.im[0] === 0;
    while (n > 0 && isZero(p[n])) { n--; zeros++; }
    const trimmed = p.slice(0, n + 1), q = rounded(trimmed);
    const plain = (z) => q.reduce((v, c) => add(mul(v, z), c), [0, 0]);
    const exact = (z) => valueAt(trimmed, z);
    // Roots of one polynomial: their geometric mean is the radius on which the search begins.
    const radius = n > 0 ? Math.pow(abs(q[n]), 1 / n) : 0;
    const z = Array.from({ length: n }, (_, k) => {
      const angle = (2 * Math.PI * k) / n + 0.4;
      return [radius * Math.cos(angle), radius * Math.sin(angle)];
    });
    for (let k = 0; k < 200 && aberth(q, z, plain) > 1e-9; k++);
    for (let k = 0; k < 80 && aberth(q, z, exact) > EPS; k++);
    const checked = z.map((root) => (residual(q, exact, root) <= 64 * EPS ? root : [NaN, NaN]));
    return [...checked, ...Array.from({ length: zeros }, () => [0, 0])].sort((x, y) => abs(y) - abs(x));
  }

  /** |p(z)| as a share of sum |p_k| |z|^(n-k), the size of what cancels. */
  function residual(q, exact, z) {
    const size = q.reduce((s, c) => s * abs(z) + abs(c), 0);
    return size === 0 ? 0 : abs(exact(z)) / size;
  }

  const closedLoopPoles = (law, alpha) => roots(modePolynomial(law, alpha));

  /** Largest modulus of the closed-loop poles. */
  function modeRadius(law, a) {
    return closedLoopPoles(law, openLoopPole(law, a)).reduce((largest, z) => Math.max(largest, abs(z)), 0);
  }

  // ---- stability -----------------------------------------------------------------------------------------------

  const RE = new Float64Array(6), IM = new Float64Array(6);

  /** Largest |reflection coefficient| (Schur, Cohn) of the n + 1 coefficients in RE and IM, which it overwrites. */
  function reflection(n) {
    let largest = 0;
    for (let m = n; m > 0; m--) {
      const kr = RE[m], ki = IM[m], size = kr * kr + ki * ki;
      if (size > largest) largest = size;
      if (size >= 1) break;
      const scale = 1 / (1 - size);
      for (let j = 0, i = m; j <= i; j++, i--) { // two coefficients at a time, each of which needs the other
        const a = RE[j], b = IM[j], c = RE[i], d = IM[i];
        RE[j] = (a - (kr * c + ki * d)) * scale; IM[j] = (b - (ki * c - kr * d)) * scale;
        RE[i] = (c - (kr * a + ki * b)) * scale; IM[i] = (d - (ki * a - kr * b)) * scale;
      }
    }
    return Math.sqrt(largest);
  }

  /** The same where all of IM is 0, as for every mode of a causal network. */
  function realReflection(n) {
    let largest = 0;
    for (let m = n; m > 0; m--) {
      const k = RE[m], size = k * k;
      if (size > largest) largest = size;
      if (size >= 1) break;
      const scale = 1 / (1 - size);
      for (let j = 0, i = m; j <= i; j++, i--) {
        const a = RE[j], c = RE[i];
        RE[j] = (a - k * c) * scale;
        RE[i] = (c - k * a) * scale;
      }
    }
    return Math.sqrt(largest);
  }

  /** Verdicts of many modes: 0 stable, 1 a pole on the circle within 1e-9, 2 a pole outside, 3 poles not resolved. */
  function verdicts(law, re, im, out) {
    const { num, den } = fraction(law), n = den.length, memory = new Map();
    for (let i = 0; i < re.length; i++) {
      const ar = law.skip + law.feedback * re[i], ai = law.feedback * im[i];
      RE[0] = 1; IM[0] = 0;
      for (let k = 1; k <= n; k++) {
        RE[k] = (k < n ? den[k] : 0) + num[k - 1] - ar * den[k - 1];
        IM[k] = -ai * den[k - 1];
      }
      const size = ai === 0 ? realReflection(n) : reflection(n);
      if (size < 1 - UNSURE) out[i] = 0;
      else if (size > 1 + UNSURE) out[i] = 2;
      else {
        const key = `${ar},${ai}`;
        if (!memory.has(key)) memory.set(key, verdictOf(closedLoopPoles(law, [ar, ai])));
        out[i] = memory.get(key);
      }
    }
    return out;
  }

  function verdictOf(poles) {
    const radius = poles.reduce((largest, z) => Math.max(largest, abs(z)), 0);
    if (Number.isNaN(radius)) return 3;
    if (radius > 1 + MARGINAL) return 2;
    return radius < 1 - MARGINAL ? 0 : 1;
  }

  /** Real alpha at which a pole is on the circle: z = 1, z = -1, and where Im(z + C) = 0, a quadratic in cos w. */
  function criticalModes(law) {
    const { ki, kd, ema } = law, cosines = [];
    const values = [-1 + (law.kp + (law.form === "printed" ? ki / 2 + 2 * kd : (ki * ema) / (ema - 2) - 2 * kd))];
    if (law.form === "printed") {
      if (ki === 0) values.push(1 + law.kp);
      if (1 + kd !== 0) cosines.push(1 - ki / (2 * (1 + kd)));
    } else {
      const b = 1 - ema, size = 1 + b * b; // (1 - kd + 2 kd c)(1 + b^2 - 2 b c) = ki g
      values.push(1 + law.kp + ki);
      cosines.push(...quadratic(-4 * kd * b, 2 * kd * size - 2 * b * (1 - kd), (1 - kd) * size - ki * ema));
    }
    for (const c of cosines) {
      if (c > -1 && c < 1) values.push(regionBoundary(law, Math.acos(c))[0]);
    }
    return values.filter(Number.isFinite).sort((x, y) => x - y);
  }

  function quadratic(a, b, c) {
    if (a === 0) return b === 0 ? [] : [-c / b];
    const d = b * b - 4 * a * c;
    if (d < 0) return [];
    const q = -(b + (b < 0 ? -1 : 1) * Math.sqrt(d)) / 2;
    return q === 0 ? [0, 0] : [q / a, c / q];
  }

  /** Open intervals of real attention eigenvalues a with a stable loop, ascending. */
  function modeIntervals(law) {
    const inside = (alpha) => verdictOf(closedLoopPoles(law, [alpha, 0])) === 0;
    if (law.feedback === 0) return inside(law.skip) ? [[-Infinity, Infinity]] : [];
    const critical = criticalModes(law), intervals = [];
    for (let k = 0; k + 1 < critical.length; k++) {
      const low = critical[k], high = critical[k + 1];
      if (high - low <= 1e-12 * Math.max(Math.abs(low), Math.abs(high)) || !inside((low + high) / 2)) continue;
      const last = intervals[intervals.length - 1];
      if (last && last[1] === low && inside(low)) last[1] = high;
      else intervals.push([low, high]);
    }
    const ends = intervals.map((pair) => pair.map((x) => attentionEigenvalue(law, [x, 0])[0] + 0));
    return ends.map((pair) => pair.sort((x, y) => x - y)).sort((x, y) => x[0] - y[0]);
  }

  // ---- responses -----------------------------------------------------------------------------------------------

  function polyval(p, z) {
    let re = 0, im = 0;
    for (const c of p) {
      const next = re * z[0] - im * z[1] + c;
      im = re * z[1] + im * z[0];
      re = next;
    }
    return [re, im];
  }

  /** S(e^{iw}) and T(e^{iw}), multiplied by den, so that a pole of the controller gives S = 0 and not nan. */
  function sensitivity(law, alpha, w, { num, den } = fraction(law)) {
    const z = [Math.cos(w), Math.sin(w)];
    const plant = mul(sub(z, alpha), polyval(den, z)), top = polyval(num, z), whole = add(plant, top);
    return { S: div(plant, whole), T: div(top, whole) };
  }

  /** T(1), the share of a constant reference that the mode reaches; nan where a pole lies at z = 1. */
  function staticGain(law, alpha) {
    const { num, den } = fraction(law);
    if (num.every((x) => x === 0)) return [0, 0];
    const top = num.reduce((s, x) => s + x, 0), bottom = den.reduce((s, x) => s + x, 0);
    const whole = [(1 - alpha[0]) * bottom + top, -alpha[1] * bottom];
    return whole[0] === 0 && whole[1] === 0 ? [NaN, NaN] : div([top, 0], whole);
  }

  /** y_0 ... y_layers of T for a unit step of beta r, from rest: {re, im}, layers + 1 each. */
  function stepResponse(law, alpha, layers) {
    const { num } = fraction(law), p = rounded(modePolynomial(law, alpha)), order = p.length - 1;
    let total = 0;
    const driven = num.map((x) => (total += x)), re = new Float64Array(layers + 1), im = new Float64Array(layers + 1);
    for (let k = 1; k <= layers; k++) {
      let x = driven[Math.min(k, order) - 1], y = 0;
      for (let j = 1; j <= order && j <= k; j++) {
        const c = p[j][0], s = p[j][1];
        x -= c * re[k - j] - s * im[k - j];
        y -= c * im[k - j] + s * re[k - j];
      }
      re[k] = x;
      im[k] = y;
    }
    return { re, im };
  }

  /** The first k from which y stays within 2 % of its change around `final`; infinite where it does not. */
  function settling(y, final) {
    const width = BAND * Math.hypot(final[0] - y.re[0], final[1] - y.im[0]) + 1e-12 * Math.max(1, abs(final));
    let k = y.re.length;
    while (k > 0 && Math.hypot(y.re[k - 1] - final[0], y.im[k - 1] - final[1]) <= width) k--;
    return k === y.re.length ? Infinity : k;
  }

  /** How far y goes beyond `final`, along its change and as a share of it. */
  function overshoot(y, final) {
    const re = final[0] - y.re[0], im = final[1] - y.im[0], size = Math.hypot(re, im);
    if (!(size > 1e-12)) return 0;
    let beyond = -Infinity;
    for (let k = 0; k < y.re.length; k++) beyond = Math.max(beyond, (y.re[k] - final[0]) * re + (y.im[k] - final[1]) * im);
    return beyond / (size * size) < 1e-9 ? 0 : beyond / (size * size);
  }

  /** |S(e^{iw})| as a function of w, without arrays: a search asks for it some hundred times. */
  function sizeOfSensitivity({ num, den }, alpha) {
    return (w) => {
      const x = Math.cos(w), y = Math.sin(w);
      let dr = 0, di = 0, nr = 0, ni = 0;
      for (let k = 0; k < den.length; k++) {
        const d = dr * x - di * y + den[k], t = nr * x - ni * y + num[k];
        di = dr * y + di * x; dr = d;
        ni = nr * y + ni * x; nr = t;
      }
      const re = (x - alpha[0]) * dr - (y - alpha[1]) * di, im = (x - alpha[0]) * di + (y - alpha[1]) * dr;
      return Math.hypot(re, im) / Math.hypot(re + nr, im + ni);
    };
  }

  /** max |S| over the circle; infinite where the loop is not stable. A grid with the angles of the poles, then halving. */
  function peakSensitivity(law, alpha, poles) {
    if (verdictOf(poles) !== 0) return Infinity;
    const size = sizeOfSensitivity(fraction(law), alpha), low = alpha[1] === 0 ? 0 : -Math.PI;
    const grid = poles.map((z) => Math.atan2(z[1], z[0])).filter((w) => w >= low);
    for (let k = 0; k <= 256; k++) grid.push(low + ((Math.PI - low) * k) / 256);
    grid.sort((x, y) => x - y);
    const values = grid.map(size);
    let best = Math.max(...values);
    grid.forEach((w, k) => {
      const left = k > 0 ? values[k - 1] : -1, right = k + 1 < grid.length ? values[k + 1] : -1;
      if (values[k] < left || values[k] < right || values[k] < 0.9 * best) return;
      let a = grid[Math.max(k - 1, 0)], b = grid[Math.min(k + 1, grid.length - 1)];
      for (let i = 0; i < 60; i++) {
        const left = a + 0.382 * (b - a), right = b - 0.382 * (b - a);
        if (size(left) < size(right)) a = left; else b = right;
      }
      best = Math.max(best, size((a + b) / 2));
    });
    return best;
  }

  /** What is said of one mode: its open-loop pole, its closed-loop poles, verdict, T(1), settling, overshoot and max |S|. */
  function describeMode(law, a) {
    const alpha = openLoopPole(law, a), poles = closedLoopPoles(law, alpha), verdict = verdictOf(poles);
    const final = staticGain(law, alpha), stable = verdict === 0;
    const y = stable ? stepResponse(law, alpha, HORIZON) : null;
    return {
      a, alpha, poles, verdict, final,
      radius: poles.reduce((largest, z) => Math.max(largest, abs(z)), 0),
      settling: stable ? settling(y, final) : Infinity,
      overshoot: stable ? overshoot(y, final) : NaN,
      peak: peakSensitivity(law, alpha, poles),
    };
  }

  return {
    BAND, HORIZON, MARGINAL, abs, fraction, openLoopPole, attentionEigenvalue, controllerResponse, regionBoundary,
    modePolynomial, rounded, roots, closedLoopPoles, modeRadius, verdicts, verdictOf, criticalModes, modeIntervals,
    sensitivity, staticGain, stepResponse, settling, overshoot, peakSensitivity, describeMode,
  };
})();

if (typeof module !== "undefined") module.exports = numerics;
