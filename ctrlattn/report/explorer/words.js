// Numbers as people read them, and a law as TOML, Python, a command or the fragment of an address.
//
// No function here touches the page. What is shown has three digits; what is copied has every digit.
"use strict";

const words = (() => {
  const GAINS = ["kp", "ki", "kd", "ema", "skip", "feedback", "reference_gain"];
  const FORMS = ["printed", "ema"];

  /** A number with so many digits that matter; what is not finite has a word. */
  function number(x, digits = 3) {
    if (Number.isNaN(x)) return "undefined";
    if (!Number.isFinite(x)) return x > 0 ? "∞" : "−∞";
    if (x === 0) return "0";
    const size = Math.abs(Number(x.toPrecision(digits))); // 0.9999 is 1.00 and not 1.000
    if (size < 1e-3 || size >= 1e5) return signed(x.toExponential(digits - 1)).replace(/e([+−-])(\d+)/, scientific);
    const places = Math.max(0, digits - 1 - Math.floor(Math.log10(size)));
    return signed(x.toFixed(Math.min(places, 6)));
  }
  const signed = (text) => text.replace("-", "−");
  function scientific(_, sign, power) {
    return `·10^${sign === "+" ? "" : "−"}${power}`;
  }

  /** A round number beside an axis, without the zeros that no one reads. */
  const tick = (x) => signed(String(Number(x.toPrecision(6))));

  /** A complex number; a part that three digits do not show is left out. */
  function complex(z, digits = 3) {
    if (z.some(Number.isNaN)) return "undefined";
    const size = Math.max(Math.abs(z[0]), Math.abs(z[1])), seen = (x) => Math.abs(x) > 0.5 * 10 ** -digits * size;
    if (!seen(z[1])) return number(z[0], digits);
    const imaginary = `${number(Math.abs(z[1]), digits)}i`;
    if (!seen(z[0])) return (z[1] < 0 ? "−" : "") + imaginary;
    return `${number(z[0], digits)} ${z[1] < 0 ? "−" : "+"} ${imaginary}`;
  }

  const count = (n) => String(n).replace(/\B(?=(\d{3})+$)/g, ",");
  const counted = (n, noun) => `${count(n)} ${noun}${n === 1 ? "" : "s"}`;

  /** A share in percent; one that is neither none nor all never reads 0 or 100. */
  function percent(part, whole) {
    if (whole === 0) return "undefined";
    const value = (100 * part) / whole;
    if (part === 0 || part === whole) return `${value}\u00a0%`;
    if (value < 1) return `${Number(value.toPrecision(2))}\u00a0%`;
    return value > 99 ? `${Math.min(99.9, Number(value.toFixed(1)))}\u00a0%` : `${value.toFixed(0)}\u00a0%`;
  }

  function settling(mode, horizon) {
    if (mode.verdict === 3) return "undefined: the poles are not resolved";
    if (mode.verdict !== 0) return "never: no stable pole";
    return Number.isFinite(mode.settling) ? `after ${counted(mode.settling, "layer")}` : `not within ${count(horizon)} layers`;
  }

  function intervals(pairs) {
    if (pairs.length === 0) return "for no a";
    if (pairs[0][0] === -Infinity) return "for every a";
    return `for a in ${pairs.map(([low, high]) => `(${number(low)}, ${number(high)})`).join(" ∪ ")}`;
  }

  // ---- a law as text, to the last bit --------------------------------------------------------------------------

  /** A float as TOML and Python write it: the shortest digits that read back as the same bits. */
  function float(x) {
    const text = Object.is(x, -0) ? "-0" : String(x);
    return /[.e]/.test(text) ? text : `${text}.0`;
  }
  const controlled = (law) => law.kp !== 0 || law.ki !== 0 || law.kd !== 0;

  function toml(law, causal) {
    const head = [
      "[loop]", `skip = ${float(law.skip)}`, `feedback = ${float(law.feedback)}`,
      `reference_gain = ${float(law.reference_gain)}`,
    ];
    const predictor = ["", "[loop.predictor]", 'kind = "softmax_attention"', `causal = ${causal}`];
    if (!controlled(law)) return [...head, 'controller = "none"', ...predictor, ""].join("\n");
    const pid = ["kp", "ki", "kd"].map((name) => `${name} = ${float(law[name])}`);
    const form = [`form = "${law.form}"`, `ema = ${float(law.ema)}`];
    return [...head, ...predictor, "", "[loop.controller]", 'kind = "pid"', ...pid, ...form, ""].join("\n");
  }

  function python(law, causal) {
    const controller = controlled(law)
      ? `PID(${float(law.kp)}, ${float(law.ki)}, ${float(law.kd)}, form="${law.form}", ema=${float(law.ema)})`
      : "None";
    return [
      "from ctrlattn import PID, Loop, SoftmaxAttention", "",
      "loop = Loop(",
      `    SoftmaxAttention(causal=${causal ? "True" : "False"}),`,
      `    skip=${float(law.skip)},`,
      `    feedback=${float(law.feedback)},`,
      `    controller=${controller},`,
      `    reference_gain=${float(law.reference_gain)},`,
      ")", "",
    ].join("\n");
  }

  const command = (law, causal) => `cat > loop.toml <<'END'\n${toml(law, causal)}END\nctrlattn report --config loop.toml\n`;

  // ---- the fragment of the address -----------------------------------------------------------------------------

  /** Everything that the page shows, as the fragment of its address. */
  function fragment(state) {
    const entries = [...GAINS.map((name) => [name, String(state.law[name])]), ["form", state.law.form]];
    for (const name of ["network", "text", "layer", "head", "mode"]) {
      if (state[name] !== null) entries.push([name, String(state[name])]);
    }
    if (state.laws.length > 0) entries.push(["laws", state.laws.join(",")]);
    return entries.map(([name, value]) => `${name}=${encodeURIComponent(value)}`).join("&");
  }

  /** What a fragment says that can be read; the rest is left out. Null where it is not one of ours. */
  function parsed(text) {
    const given = new Map(text.replace(/^#/, "").split("&").map((part) => {
      const [name, value = ""] = part.split("=");
      try { return [name, decodeURIComponent(value)]; } catch { return [name, ""]; }
    }));
    if (!GAINS.some((name) => given.has(name))) return null;
    const law = {};
    for (const name of GAINS) if (valid(name, read(given.get(name)))) law[name] = read(given.get(name));
    if (FORMS.includes(given.get("form"))) law.form = given.get("form");
    const state = { law, laws: (given.get("laws") || "").split(",").filter(Boolean) };
    for (const name of ["network", "text", "layer", "head", "mode"]) {
      if (/^\d{1,9}$/.test(given.get(name) || "")) state[name] = Number(given.get(name));
    }
    return state;
  }
  const read = (text) => (text === undefined || text.trim() === "" ? NaN : Number(text));

  /** Whether the package takes this number: finite, and 0 < g <= 1 for the average of the ema form. */
  const valid = (name, x) => Number.isFinite(x) && Math.abs(x) <= 1e6 && (name !== "ema" || (x > 0 && x <= 1));

  return {
    GAINS, FORMS, number, tick, complex, count, counted, percent, settling, intervals, float, toml, python, command, fragment,
    parsed, valid,
  };
})();

if (typeof module !== "undefined") module.exports = words;
