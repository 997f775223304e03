// What a person changes -> the four panes, the sentences and the address. All numbers come from numerics.js.
"use strict";

(() => {
  const n = numerics, say = words;
  const root = document.getElementById("explorer");
  const data = JSON.parse(document.getElementById("explorer-data").textContent);
  const get = (name) => document.getElementById(`explorer-${name}`);
  const networks = data.networks.map(decoded);
  const first = data.laws.find((law) => law.name === data.start) || data.laws[0];
  const state = { law: lawOf(first), network: 0, text: null, layer: null, head: null, mode: null, laws: [] };
  let shown = null; // modes that the choices leave, with their pixels
  let hovered = -1;
  let waiting = false;

  // ---- recorded modes ------------------------------------------------------------------------------------------

  function doubles(text) {
    const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0)), view = new DataView(bytes.buffer);
    return Float64Array.from({ length: bytes.length / 8 }, (_, k) => view.getFloat64(8 * k, true));
  }

  /** A network with its modes one after the other: text, layer, head, place in the spectrum. */
  function decoded(network) {
    const re = doubles(network.re), im = network.im === null ? new Float64Array(re.length) : doubles(network.im);
    const places = [];
    network.texts.forEach((text, t) => {
      for (const layer of text.layers) for (let h = 0; h < network.heads; h++) for (let i = 0; i < text.count; i++) places.push([t, layer, h, i]);
    });
    return { ...network, re, im, real: network.im === null, places };
  }

  function lawOf(law) {
    const { kp, ki, kd, form, ema, skip, feedback, reference_gain } = law;
    return { kp, ki, kd, form, ema, skip, feedback, reference_gain };
  }

  /** The modes of the chosen text, layer and head, in ascending order of Re a for the keyboard. */
  function select() {
    const network = networks[state.network], indices = [];
    network.places.forEach(([t, layer, head], i) => {
      if ((state.text === null || t === state.text) && (state.layer === null || layer === state.layer) && (state.head === null || head === state.head)) indices.push(i);
    });
    const pick = (values) => Float64Array.from(indices, (i) => values[i]);
    shown = {
      indices, re: pick(network.re), im: pick(network.im), real: network.real,
      layer: indices.map((i) => network.places[i][1]),
      spread: indices.map((i) => (network.places[i][2] + network.places[i][3] / network.texts[network.places[i][0]].count) / network.heads),
      verdicts: new Uint8Array(indices.length),
    };
    shown.order = indices.map((_, k) => k).sort((j, k) => shown.re[j] - shown.re[k] || shown.im[j] - shown.im[k] || j - k);
    if (!indices.includes(state.mode)) state.mode = indices[nearestToMean()];
    hovered = -1;
    place();
    const range = get("mode");
    range.max = Math.max(0, indices.length - 1);
    syncMode();
  }

  function nearestToMean() {
    const mean = (values) => values.reduce((s, x) => s + x, 0) / values.length, a = mean(shown.re), b = mean(shown.im);
    let best = 0;
    shown.re.forEach((x, k) => {
      if (Math.hypot(x - a, shown.im[k] - b) < Math.hypot(shown.re[best] - a, shown.im[best] - b)) best = k;
    });
    return best;
  }

  const chosen = () => shown.indices.indexOf(state.mode);
  const eigenvalue = (k) => [shown.re[k], shown.im[k]];

  /** Token, layer and head of a mode. A matrix that reads both ways has no mode of one token. */
  function whereabouts(k) {
    const network = networks[state.network], [t, layer, head, i] = network.places[shown.indices[k]], text = network.texts[t];
    const token = text.tokens === null ? `token ${i}` : `token ${i} “${text.tokens[i].trim() || text.tokens[i]}”`;
    const mode = text.causal ? token : `mode ${i + 1} of ${text.count}, by modulus`;
    return { token: mode, layer, head, text: text.title };
  }

  // ---- size of the drawings ------------------------------------------------------------------------------------

  let geometry = null, look = null;
  const drawings = [["poles", panes.drawPoles, 0.95, 430], ["step", panes.drawStep, 0.68, 340], ["bode", panes.drawBode, 0.72, 340]].map(
    ([name, draw, share, most]) => ({ box: get(name), draw, share, most, width: 250, height: 240, seen: true }));
  function place() {
    const canvas = get("plane"), width = Math.max(260, canvas.parentElement.clientWidth), ratio = Math.min(2, window.devicePixelRatio || 1);
    const height = Math.round(shown.real ? Math.min(560, Math.max(370, width * 0.86)) : Math.min(560, Math.max(300, width * 0.78)));
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
    canvas.style.height = `${height}px`;
    geometry = panes.geometry(width, height, shown.real);
    shown.positions = panes.positions(geometry, shown, networks[state.network].layers, canvas.width / width);
    for (const pane of drawings) {
      pane.width = Math.max(250, pane.box.clientWidth);
      pane.height = Math.round(Math.max(240, Math.min(pane.most, pane.width * pane.share)));
    }
    look = null;
  }

  function looks() {
    const style = getComputedStyle(root), of = (name) => style.getPropertyValue(`--${name}`).trim();
    return {
      ink: of("ink"), soft: of("soft"), line: of("line"), paper: of("paper"), area: of("area"),
      stable: of("stable"), unstable: of("unstable"), marginal: of("marginal"), font: `12px ${style.fontFamily}`,
      colours: [1, 2, 3, 4, 5, 6].map((k) => of(`other-${k}`)),
    };
  }

  // ---- one frame -----------------------------------------------------------------------------------------------

  function later() {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => { waiting = false; draw(); });
  }

  let quiet = 0;
  function draw() {
    const law = state.law, network = networks[state.network], k = chosen(), a = eigenvalue(k);
    look ??= looks();
    n.verdicts(law, shown.re, shown.im, shown.verdicts);
    const others = state.laws.map((name) => data.laws.find((l) => l.name === name)).map((l) => ({ law: l, mode: n.describeMode(l, a) }));
    const scene = {
      law, others, mode: n.describeMode(law, a), intervals: n.modeIntervals(law), positions: shown.positions, verdicts: shown.verdicts,
      chosen: k, hovered, layers: network.layers, depth: Math.max(12, network.layers),
    };
    panes.drawPlane(get("plane"), geometry, scene, look);
    for (const pane of drawings) if (pane.seen) drawPane(pane, scene);
    tell(scene);
    clearTimeout(quiet);
    quiet = setTimeout(() => settle(scene), 400);
  }

  function drawPane(pane, scene) { pane.box.innerHTML = pane.draw(pane.width, pane.height, scene, look); }

  // A text that has not changed is not written: the browser would lay the page out anew.
  const written = new Map();
  function put(name, text) {
    if (written.get(name) === text) return;
    written.set(name, text);
    get(name).textContent = text;
  }
  const lawButtons = Array.from(root.querySelectorAll("[data-law]"), (button) => ({
    button, law: lawOf(data.laws.find((l) => l.name === button.dataset.law)),
  }));

  function tell(scene) {
    const network = networks[state.network], tally = [0, 0, 0, 0];
    for (const v of shown.verdicts) tally[v]++;
    const whole = shown.verdicts.length;
    put("share", say.percent(tally[2], whole));
    put("verdict", `of ${say.counted(whole, "mode")} of ${network.name} ${tally[2] === 1 ? "is" : "are"} unstable under this law.`);
    const rest = [`${say.percent(tally[0], whole)} are stable`];
    if (tally[1] > 0) rest.push(`${say.percent(tally[1], whole)} have a pole on the unit circle`);
    if (tally[3] > 0) rest.push(`the poles of ${say.counted(tally[3], "mode")} are not resolved`);
    put("rest", `${rest.join("; ")}. A real mode is stable ${say.intervals(scene.intervals)}.`);
    const mode = scene.mode, place = whereabouts(scene.chosen);
    const facts = {
      "where": `${place.token}, layer ${place.layer}, head ${place.head}`, "text": place.text,
      "a": say.complex(mode.a), "alpha": say.complex(mode.alpha),
      "pole": `${say.complex(mode.poles[0])} (|z| = ${say.number(mode.radius)})`,
      "word": ["stable", "on the unit circle", "unstable", "not resolved"][mode.verdict],
      "final": mode.verdict === 0 ? say.complex(mode.final) : "undefined", "settling": say.settling(mode, n.HORIZON),
      "overshoot": mode.verdict === 0 ? `${say.number(100 * mode.overshoot, 2)}\u00a0%` : "undefined",
      "peak": mode.verdict === 0 ? say.number(mode.peak) : "undefined",
    };
    for (const [name, value] of Object.entries(facts)) put(`fact-${name}`, value);
    if (get("fact-word").dataset.verdict !== String(mode.verdict)) get("fact-word").dataset.verdict = mode.verdict;
    put("bode-note", mode.verdict === 0 ? "" : " The mode is not stable: the thin curves are the formulas, and no response settles to them.");
    const silent = scene.law.kp === 0 && scene.law.ki === 0 && scene.law.kd === 0;
    put("step-note", silent ? " All gains are 0: no way leads from the reference to the state." : "");
    for (const { button, law } of lawButtons) {
      const pressed = String(Object.keys(state.law).every((key) => law[key] === state.law[key]));
      if (button.getAttribute("aria-pressed") !== pressed) button.setAttribute("aria-pressed", pressed);
    }
    put("copied-text", copyText());
  }

  /** Once nothing has changed for a while: panes out of sight, the address, and what a screen reader says. */
  let untouched = null;
  function settle(scene) {
    for (const pane of drawings) if (!pane.seen) drawPane(pane, scene);
    const text = say.fragment(state);
    untouched ??= text;
    // Until something is changed, an address that leads to a section of the page stays.
    if (text !== untouched || say.parsed(location.hash) !== null) try { history.replaceState(null, "", `#${text}`); } catch { /* a frame without an address of its own */ }
    get("live").textContent = `${get("share").textContent} ${get("verdict").textContent}`;
    get("plane").setAttribute("aria-label", `Eigenvalues of attention over the stability region. ${get("live").textContent} ${get("rest").textContent}`);
  }

  // ---- what is hovered -----------------------------------------------------------------------------------------

  function nearest(x, y) {
    let best = -1, closest = 14 * 14;
    for (let k = 0; k < shown.re.length; k++) {
      const dx = shown.positions.x[k] - x, dy = shown.positions.y[k] - y, d = dx * dx + dy * dy;
      if (d < closest) { closest = d; best = k; }
    }
    if (best >= 0 || !shown.real || Math.abs(y - geometry.middle) > 14) return best;
    closest = 8;
    for (let k = 0; k < shown.re.length; k++) {
      const d = Math.abs(shown.positions.x[k] - x);
      if (d < closest) { closest = d; best = k; }
    }
    return best;
  }

  function hover(k) {
    if (k === hovered) return;
    hovered = k;
    const tip = get("tip");
    tip.hidden = k < 0;
    if (k >= 0) {
      const mode = n.describeMode(state.law, eigenvalue(k)), place = whereabouts(k);
      const lines = [
        `${place.token}`, `layer ${place.layer}, head ${place.head}`, `a = ${say.complex(mode.a)}`,
        `pole ${say.complex(mode.poles[0])}, |z| = ${say.number(mode.radius)}`, `settling ${say.settling(mode, n.HORIZON)}`,
      ];
      tip.replaceChildren(...lines.map((line) => Object.assign(document.createElement("div"), { textContent: line })));
      const x = shown.positions.x[k], y = shown.positions.y[k], left = x > geometry.width / 2;
      tip.style.left = left ? "auto" : `${Math.round(x + 12)}px`;
      tip.style.right = left ? `${Math.round(geometry.width - x + 12)}px` : "auto";
      tip.style.top = `${Math.round(Math.min(y + 10, geometry.height - 120))}px`;
    }
    later();
  }

  function syncMode() {
    const range = get("mode"), k = chosen(), place = whereabouts(k);
    range.value = shown.order.indexOf(k);
    range.setAttribute("aria-valuetext", `a = ${say.complex(eigenvalue(k))}, ${place.token}, layer ${place.layer}, head ${place.head}`);
  }

  function choose(k) {
    state.mode = shown.indices[k];
    syncMode();
    later();
  }

  // ---- controls ------------------------------------------------------------------------------------------------

  function syncLaw() {
    for (const name of say.GAINS) {
      const field = get(name);
      if (document.activeElement !== field || Number(field.value) !== state.law[name]) field.value = state.law[name];
      field.setAttribute("aria-invalid", "false");
      get(`${name}-range`).value = state.law[name];
    }
    get("form").value = state.law.form;
    get("ema-row").hidden = state.law.form !== "ema";
  }

  function options(select, entries, value) {
    select.replaceChildren(...entries.map(([key, label]) => new Option(label, key === null ? "" : String(key))));
    select.value = value === null ? "" : String(value);
  }

  function syncChoices() {
    const network = networks[state.network], range = (count) => Array.from({ length: count }, (_, k) => [k, String(k)]);
    options(get("network"), networks.map((each, k) => [k, each.name]), state.network);
    options(get("text"), [[null, "all texts"], ...network.texts.map((text, k) => [k, text.title])], state.text);
    options(get("layer"), [[null, "all layers"], ...range(network.layers)], state.layer);
    options(get("head"), [[null, "all heads"], ...range(network.heads)], state.head);
    for (const box of root.querySelectorAll("[data-compare]")) box.checked = state.laws.includes(box.dataset.compare);
    for (const key of root.querySelectorAll("[data-key]")) {
      const k = state.laws.indexOf(key.dataset.key), colour = `var(--other-${(k % 6) + 1})`;
      key.innerHTML = k < 0 ? "" : panes.marker(panes.SHAPES[k % panes.SHAPES.length], 7, 7, 4.5, `style="fill:${colour};stroke:${colour}"`);
    }
  }

  const kinds = { toml: say.toml, python: say.python, command: say.command };
  function copyText() {
    const network = networks[state.network], kind = root.querySelector("[name=explorer-kind]:checked").value;
    return kinds[kind](state.law, network.texts[0].causal);
  }

  async function copy() {
    const text = copyText(), told = get("copied");
    try {
      await navigator.clipboard.writeText(text);
      told.textContent = "Copied.";
    } catch {
      const range = document.createRange();
      range.selectNodeContents(get("copied-text"));
      getSelection().removeAllRanges();
      getSelection().addRange(range);
      told.textContent = "The browser does not let a page copy: the text is selected, press Ctrl+C.";
    }
    setTimeout(() => { told.textContent = ""; }, 4000);
  }

  /** A gain from a field or a slider; what the package would refuse leaves the law as it is. */
  function change(name, value) {
    const ok = say.valid(name, value);
    get(name).setAttribute("aria-invalid", String(!ok));
    if (!ok) return;
    state.law[name] = value;
    syncLaw();
    later();
  }

  for (const name of say.GAINS) {
    get(name).addEventListener("input", (event) => change(name, event.target.value.trim() === "" ? NaN : Number(event.target.value)));
    get(name).addEventListener("change", syncLaw);
    get(`${name}-range`).addEventListener("input", (event) => change(name, Number(event.target.value)));
  }
  get("form").addEventListener("change", (event) => { state.law.form = event.target.value; syncLaw(); later(); });
  get("network").addEventListener("change", (event) => {
    Object.assign(state, { network: Number(event.target.value), text: null, layer: null, head: null, mode: null });
    syncChoices(); select(); later();
  });
  for (const name of ["text", "layer", "head"]) {
    get(name).addEventListener("change", (event) => {
      state[name] = event.target.value === "" ? null : Number(event.target.value);
      select(); later();
    });
  }
  get("mode").addEventListener("input", (event) => { const k = shown.order[Number(event.target.value)]; choose(k); hover(k); });
  get("mode").addEventListener("focus", () => hover(chosen()));
  get("mode").addEventListener("blur", () => hover(-1));
  const over = (event) => { const box = get("plane").getBoundingClientRect(); return nearest(event.clientX - box.left, event.clientY - box.top); };
  get("plane").addEventListener("pointermove", (event) => hover(over(event)));
  get("plane").addEventListener("pointerleave", () => hover(-1));
  get("plane").addEventListener("click", (event) => { const k = over(event); if (k >= 0) choose(k); hover(k); });
  for (const button of root.querySelectorAll("[data-law]")) {
    button.addEventListener("click", () => { state.law = lawOf(data.laws.find((l) => l.name === button.dataset.law)); syncLaw(); later(); });
  }
  for (const box of root.querySelectorAll("[data-compare]")) {
    box.addEventListener("change", () => {
      state.laws = state.laws.filter((name) => name !== box.dataset.compare);
      if (box.checked) state.laws.push(box.dataset.compare);
      syncChoices(); later();
    });
  }
  for (const radio of root.querySelectorAll("[name=explorer-kind]")) radio.addEventListener("change", later);
  get("copy").addEventListener("click", copy);

  /** Take what an address says, as far as this page has it. */
  function open(address) {
    const given = say.parsed(address);
    if (given === null) return;
    const law = { ...lawOf(first), ...given.law }, within = (x, count) => (x !== undefined && x < count ? x : null);
    const network = within(given.network, networks.length) ?? 0, there = networks[network];
    Object.assign(state, {
      law, network, text: within(given.text, there.texts.length), layer: within(given.layer, there.layers),
      head: within(given.head, there.heads), mode: within(given.mode, there.places.length),
      laws: [...new Set(given.laws)].filter((name) => data.laws.some((l) => l.name === name)),
    });
    // A layer without a recorded matrix has no mode to show.
    if (!there.places.some(([, layer]) => state.layer === null || layer === state.layer)) state.layer = null;
  }

  function start() { syncLaw(); syncChoices(); select(); later(); }

  open(location.hash);
  start();
  window.addEventListener("hashchange", () => { open(location.hash); start(); });
  let width = 0;
  new ResizeObserver(([entry]) => {
    if (entry.contentRect.width === width) return; // a canvas whose size is set is blank until it is drawn
    width = entry.contentRect.width;
    place();
    draw();
  }).observe(get("plane").parentElement);
  const sight = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      const pane = drawings.find((each) => each.box === entry.target);
      if (entry.isIntersecting && !pane.seen) later();
      pane.seen = entry.isIntersecting;
    }
  }, { rootMargin: "200px" });
  for (const pane of drawings) sight.observe(pane.box);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { look = null; later(); });
  root.classList.add("x-ready");
})();
