// law + mode -> four pictures: the plane on a canvas, since it holds thousands of modes, and three drawings in SVG.
"use strict";

const panes = (() => {
  const n = numerics, say = words;
  const VIEW = [-1.7, 2.1]; // Re a: attention has |a| <= 1, and the regions of the published laws lie around it
  const STRIP = 0.42; // share of the plane's height for the rows of layers, where all modes are real
  const SHAPES = ["circle", "square", "triangle", "diamond", "plus", "bar"];
  const FREQUENCIES = Array.from({ length: 181 }, (_, k) => 0.03 * Math.pow(Math.PI / 0.03, k / 180));

  // ---- the plane -----------------------------------------------------------------------------------------------

  /** Where the plane and the strip lie on a canvas of this size, and how a becomes pixels. */
  function geometry(width, height, real) {
    const left = 38, right = 8, top = 8, bottom = 34;
    const whole = height - top - bottom, plane = real ? whole * (1 - STRIP) : whole;
    const scale = (width - left - right) / (VIEW[1] - VIEW[0]), middle = top + plane / 2;
    return {
      width, height, left, right: width - right, top, low: top + plane, bottom: height - bottom, scale, middle,
      x: (re) => left + (re - VIEW[0]) * scale, y: (im) => middle - im * scale,
      re: (x) => VIEW[0] + (x - left) / scale, im: (y) => (middle - y) / scale,
    };
  }

  /**
   * Where modes lie; real ones lie in the strip too, a row for each layer. On a canvas of `ratio` device pixels to one of
   * the page, `spot` is the pixel of a mode and `column` that of its stroke on the real axis; -1 where none is seen.
   */
  function positions(g, modes, layers, ratio) {
    const count = modes.re.length, x = new Float32Array(count), y = new Float32Array(count);
    const spot = new Int32Array(count).fill(-1), column = new Int32Array(count).fill(-1);
    const width = Math.round(g.width * ratio), margin = Math.ceil(4 * ratio);
    const [left, right, top, bottom] = [g.left, g.right, g.top, g.bottom].map((v) => Math.round(v * ratio));
    const row = modes.real ? (g.bottom - g.low - 26) / Math.max(layers, 1) : 0;
    for (let i = 0; i < count; i++) {
      x[i] = g.x(modes.re[i]);
      y[i] = modes.real ? g.low + 20 + row * (modes.layer[i] + 0.15 + 0.7 * modes.spread[i]) : g.y(modes.im[i]);
      const px = Math.round(x[i] * ratio), py = Math.round(y[i] * ratio);
      if (px > left + margin && px < right - margin && py > top + margin && py < bottom - margin) spot[i] = py * width + px;
      if (px >= g.left * ratio && px < g.right * ratio) column[i] = px;
    }
    return { x, y, spot, column };
  }

  function drawPlane(canvas, g, scene, look) {
    const ctx = canvas.getContext("2d", { alpha: false, willReadFrequently: true }), ratio = canvas.width / g.width;
    ctx.setTransform(ratio, 0, 0, ratio, 0, 0);
    paint(ctx, canvas, g, scene, look, ratio);
    ctx.drawImage(furniture(g, scene, look, ratio), 0, 0, g.width, g.height);
    ctx.save();
    ctx.beginPath();
    ctx.rect(g.left, g.top, g.right - g.left, g.bottom - g.top);
    ctx.clip();
    scene.others.forEach((other, k) => strokeOutline(ctx, g, other.law, look.colours[k % look.colours.length], 1.4, [5, 3]));
    strokeOutline(ctx, g, scene.law, look.ink, 2, []);
    drawRings(ctx, g, scene, look);
    ctx.restore();
  }

  // Lines and words that no gain moves are drawn once for each size, network and look.
  let plate = null;
  function furniture(g, scene, look, ratio) {
    if (plate !== null && plate.g === g && plate.look === look && plate.layers === scene.layers && plate.ratio === ratio) return plate.canvas;
    const canvas = document.createElement("canvas"), ctx = canvas.getContext("2d", { willReadFrequently: true });
    canvas.width = Math.round(g.width * ratio);
    canvas.height = Math.round(g.height * ratio);
    ctx.setTransform(ratio, 0, 0, ratio, 0, 0);
    ctx.font = look.font;
    ctx.save();
    ctx.beginPath();
    ctx.rect(g.left, g.top, g.right - g.left, g.bottom - g.top);
    ctx.clip();
    drawGrid(ctx, g, look);
    ctx.restore();
    drawFrame(ctx, g, scene, look);
    plate = { canvas, g, look, layers: scene.layers, ratio };
    return canvas;
  }

  // Ten thousand marks are faster as pixels than as paths: the region and the modes are painted in one image.
  let image = null;
  function paint(ctx, canvas, g, scene, look, ratio) {
    if (image === null || image.width !== canvas.width || image.height !== canvas.height) image = ctx.createImageData(canvas.width, canvas.height);
    const pixels = new Uint32Array(image.data.buffer), width = image.width;
    pixels.fill(pixel(look.paper));
    paintRegion(pixels, width, g, scene, look, ratio);
    const colours = [look.stable, look.marginal, look.unstable, look.marginal], many = scene.positions.x.length > 3000;
    if (g.low < g.bottom) paintRug(pixels, width, g, scene, colours.map(pixel), ratio);
    const marks = [square(2.6 * ratio), ring(3.8 * ratio), cross(4.6 * ratio), ring(3.8 * ratio)];
    const { spot } = scene.positions, verdicts = scene.verdicts;
    for (const kind of [0, 1, 2, 3]) {
      const ink = pixel(colours[kind]), weight = many ? 150 : 220;
      const offsets = Int32Array.from(marks[kind], ([dx, dy]) => dy * width + dx);
      for (let i = 0; i < spot.length; i++) {
        const at = spot[i];
        if (verdicts[i] !== kind || at < 0) continue;
        for (let k = 0; k < offsets.length; k++) pixels[at + offsets[k]] = blended(pixels[at + offsets[k]], ink, weight);
      }
    }
    ctx.putImageData(image, 0, 0);
  }

  /** #rrggbb as the bytes of a pixel, red first. */
  function pixel(colour) {
    const bytes = new Uint8Array([1, 3, 5].map((k) => parseInt(colour.slice(k, k + 2), 16)).concat(255));
    return new Uint32Array(bytes.buffer)[0];
  }
  function blended(below, above, weight) {
    const rest = 256 - weight, mask = 0x00ff00ff; // two channels at a time
    const even = ((below & mask) * rest + (above & mask) * weight) >>> 8;
    const odd = ((below >>> 8) & mask) * rest + ((above >>> 8) & mask) * weight;
    return ((even & mask) | (odd & 0xff00ff00)) >>> 0;
  }

  // Stable modes are dots, those on the circle rings, unstable ones crosses: the shape says it without colour.
  function square(size) {
    const s = Math.max(2, Math.round(size)), first = -(s >> 1);
    return Array.from({ length: s * s }, (_, k) => [first + (k % s), first + Math.floor(k / s)]);
  }
  function ring(size) {
    const s = Math.max(4, Math.round(size));
    return square(s).filter(([x, y]) => [x, y].some((v) => v === -(s >> 1) || v === -(s >> 1) + s - 1));
  }
  function cross(size) {
    const r = Math.max(2, Math.round(size / 2)), thick = r > 3 ? [0, 1] : [0], marks = new Map();
    for (let k = -r; k <= r; k++) for (const d of thick) for (const sign of [1, -1]) marks.set(`${k + d},${sign * k}`, [k + d, sign * k]);
    return [...marks.values()];
  }

  function paintRegion(pixels, width, g, scene, look, ratio) {
    const top = Math.round(g.top * ratio), low = Math.round(g.low * ratio), bottom = Math.round(g.bottom * ratio), heights = [];
    for (let row = low - 1; row >= top; row--) heights.push(g.im((row + 0.5) / ratio));
    const area = pixel(look.area);
    const bar = ([from, to], row) => {
      const start = Math.round(Math.max(g.x(Math.max(from, VIEW[0])), g.left) * ratio), end = Math.round(Math.min(g.x(Math.min(to, VIEW[1])), g.right) * ratio);
      if (end > start) pixels.fill(area, row * width + start, row * width + end);
    };
    region.spans(scene.law, heights).forEach((spans, k) => spans.forEach((span) => bar(span, low - 1 - k)));
    for (let row = low; row < bottom; row++) scene.intervals.forEach((span) => bar(span, row));
  }

  /** Real modes in the plane itself: a short stroke each, on the real axis; that of an unstable one is longer. */
  function paintRug(pixels, width, g, scene, inks, ratio) {
    const { column } = scene.positions, verdicts = scene.verdicts;
    const last = new Int8Array(width).fill(-1), unstable = new Uint8Array(width); // thousands of modes share some hundred columns
    for (let i = 0; i < column.length; i++) {
      if (column[i] < 0) continue;
      last[column[i]] = verdicts[i];
      if (verdicts[i] === 2) unstable[column[i]] = 1;
    }
    const middle = Math.round(g.middle * ratio), short = Math.round(5 * ratio), long = Math.round(8 * ratio);
    const stroke = (x, from, to, ink) => { for (let row = middle + from; row <= middle + to; row++) pixels[row * width + x] = ink; };
    for (let x = 0; x < width; x++) {
      if (unstable[x] === 1) stroke(x, -long, long, inks[2]);
      if (last[x] >= 0) stroke(x, -short, short, inks[last[x]]);
    }
  }

  function drawGrid(ctx, g, look) {
    ctx.strokeStyle = look.line;
    ctx.lineWidth = 1;
    ctx.beginPath();
    for (let re = -1.5; re <= VIEW[1]; re += 0.5) { ctx.moveTo(g.x(re), g.top); ctx.lineTo(g.x(re), g.bottom); }
    for (let im = -3; im <= 3; im += 0.5) if (g.y(im) < g.low) { ctx.moveTo(g.left, g.y(im)); ctx.lineTo(g.right, g.y(im)); } // rows of layers have no Im a
    ctx.save();
    ctx.rect(g.left, g.top, g.right - g.left, g.low - g.top);
    ctx.stroke();
    ctx.restore();
    ctx.strokeStyle = look.soft;
    ctx.setLineDash([2, 3]);
    ctx.beginPath();
    ctx.arc(g.x(0), g.y(0), g.scale, 0, 2 * Math.PI);
    ctx.stroke();
    ctx.setLineDash([]);
  }

  function strokeOutline(ctx, g, law, colour, width, dash) {
    ctx.save();
    ctx.beginPath();
    ctx.rect(g.left, g.top, g.right - g.left, g.low - g.top);
    ctx.clip();
    ctx.strokeStyle = colour;
    ctx.lineWidth = width;
    ctx.setLineDash(dash);
    for (const part of region.outline(law)) {
      for (const sign of [1, -1]) {
        ctx.beginPath();
        part.forEach(([x, y], k) => {
          const px = clamp(g.x(x)), py = clamp(g.y(sign * y));
          if (k === 0) ctx.moveTo(px, py); else ctx.lineTo(px, py);
        });
        ctx.stroke();
      }
    }
    ctx.restore();
  }
  const clamp = (x) => Math.max(-1e5, Math.min(1e5, x)); // a canvas counts in floats of single precision

  function drawRings(ctx, g, scene, look) {
    const { x, y } = scene.positions;
    for (const [at, width] of [[scene.chosen, 2.4], [scene.hovered, 1.4]]) {
      if (at < 0) continue;
      ctx.strokeStyle = look.ink; ctx.lineWidth = width;
      ctx.beginPath(); ctx.arc(x[at], y[at], 6.5, 0, 2 * Math.PI); ctx.stroke();
      if (g.low < g.bottom) { ctx.beginPath(); ctx.arc(x[at], g.middle, 5, 0, 2 * Math.PI); ctx.stroke(); }
    }
  }

  function drawFrame(ctx, g, scene, look) {
    ctx.fillStyle = look.soft;
    ctx.strokeStyle = look.line;
    ctx.lineWidth = 1;
    ctx.strokeRect(g.left, g.top, g.right - g.left, g.bottom - g.top);
    ctx.textAlign = "center"; ctx.textBaseline = "top";
    for (let re = -1.5; re <= 2; re += 0.5) ctx.fillText(say.tick(re), g.x(re), g.bottom + 4);
    ctx.fillText("Re a, eigenvalue of attention", (g.left + g.right) / 2, g.bottom + 18);
    ctx.textAlign = "right"; ctx.textBaseline = "middle";
    for (let im = -1; im <= 1; im += 0.5) {
      if (g.y(im) > g.top + 5 && g.y(im) < g.low - 5) ctx.fillText(say.tick(im), g.left - 5, g.y(im));
    }
    ctx.save(); ctx.translate(9, g.middle); ctx.rotate(-Math.PI / 2); ctx.textAlign = "center"; ctx.fillText("Im a", 0, 0); ctx.restore();
    if (g.low === g.bottom) return;
    ctx.beginPath(); ctx.moveTo(g.left, g.low); ctx.lineTo(g.right, g.low); ctx.stroke();
    ctx.save(); ctx.translate(9, (g.low + g.bottom) / 2); ctx.rotate(-Math.PI / 2); ctx.textAlign = "center"; ctx.fillText("layer", 0, 0); ctx.restore();
    const row = (g.bottom - g.low - 26) / Math.max(scene.layers, 1), every = Math.ceil(13 / row);
    for (let layer = 0; layer < scene.layers; layer += every) {
      ctx.fillText(String(layer), g.left - 5, g.low + 20 + row * (layer + 0.5));
    }
    ctx.textAlign = "left";
    ctx.fillText("the same modes, layer by layer", g.left + 6, g.low + 11);
  }

  // ---- drawings in SVG -----------------------------------------------------------------------------------------

  const escape = (text) => String(text).replace(/[&<>"]/g, (c) => `&#${c.charCodeAt(0)};`);
  const at = (x) => (Number.isFinite(x) ? Math.round(Math.max(-1e5, Math.min(1e5, x)) * 10) / 10 : 0);
  const text = (x, y, words, anchor = "middle", kind = "x-tick") =>
    `<text class="${kind}" x="${at(x)}" y="${at(y)}" text-anchor="${anchor}">${escape(words)}</text>`;
  const segment = (x1, y1, x2, y2, kind) =>
    `<line class="${kind}" x1="${at(x1)}" y1="${at(y1)}" x2="${at(x2)}" y2="${at(y2)}"/>`;

  /** A line through the finite points; it is broken where one is not finite. */
  function path(xs, ys, kind, style = "") {
    let d = "", pen = "M";
    for (let k = 0; k < xs.length; k++) {
      if (!Number.isFinite(xs[k]) || !Number.isFinite(ys[k])) { pen = "M"; continue; }
      d += `${pen}${at(xs[k])} ${at(ys[k])}`;
      pen = "L";
    }
    return d === "" ? "" : `<path class="${kind}" ${style} d="${d}"/>`;
  }

  function marker(shape, x, y, r, style) {
    if (!Number.isFinite(x) || !Number.isFinite(y)) return "";
    x = at(x); y = at(y);
    switch (shape) {
      case "square": return `<rect ${style} x="${x - r}" y="${y - r}" width="${2 * r}" height="${2 * r}"/>`;
      case "triangle": return `<path ${style} d="M${x} ${y - r}L${x + r} ${y + r}L${x - r} ${y + r}Z"/>`;
      case "diamond": return `<path ${style} d="M${x} ${y - r}L${x + r} ${y}L${x} ${y + r}L${x - r} ${y}Z"/>`;
      case "plus": return `<path ${style} stroke-width="1.6" d="M${x - r} ${y}H${x + r}M${x} ${y - r}V${y + r}"/>`;
      case "bar": return `<path ${style} stroke-width="2" d="M${x} ${y - r}V${y + r}"/>`;
      default: return `<circle ${style} cx="${x}" cy="${y}" r="${r}"/>`;
    }
  }
  const ownStyle = (look, k) => `style="stroke:${look.colours[k % look.colours.length]};fill:${look.colours[k % look.colours.length]}"`;
  const lineStyle = (look, k) => `style="stroke:${look.colours[k % look.colours.length]}"`;
  const svg = (width, height, label, body) =>
    `<svg width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" role="img" aria-label="${escape(label)}">${body}</svg>`;

  function drawPoles(width, height, scene, look) {
    const all = [scene.mode.poles, ...scene.others.map((o) => o.mode.poles)].flat();
    const reach = Math.min(4, Math.max(1.3, ...all.map((z) => (Number.isFinite(n.abs(z)) ? 1.12 * n.abs(z) : 0))));
    const scale = (Math.min(width, height) - 44) / (2 * reach), cx = width / 2, cy = (height - 18) / 2;
    const x = (re) => cx + re * scale, y = (im) => cy - im * scale;
    const parts = [
      `<circle class="x-inside" cx="${cx}" cy="${at(cy)}" r="${at(scale)}"/>`,
      segment(8, cy, width - 8, cy, "x-axis"), segment(cx, 6, cx, height - 24, "x-axis"),
      `<circle class="x-circle" cx="${cx}" cy="${at(cy)}" r="${at(scale)}"/>`,
      text(x(1) + 4, cy - 5, "1", "start"), text(x(-1) - 4, cy - 5, "−1", "end"), text(cx + 5, y(1) - 5, "i", "start"),
      text(width - 8, cy + 14, "Re z", "end"), text(cx + 6, 14, "Im z", "start"),
      text(cx, height - 4, "inside the circle: stable", "middle"),
    ];
    scene.others.forEach((other, k) => other.mode.poles.forEach((z) => {
      parts.push(marker(SHAPES[k % SHAPES.length], x(z[0]), y(z[1]), 3.4, ownStyle(look, k)));
    }));
    for (const z of scene.mode.poles) {
      const px = x(z[0]), py = y(z[1]), kind = n.abs(z) > 1 + n.MARGINAL ? "x-pole x-out" : "x-pole";
      if (Number.isFinite(px)) parts.push(`<path class="${kind}" d="M${at(px - 6)} ${at(py - 6)}l12 12m0 -12l-12 12"/>`);
    }
    const list = scene.mode.poles.map((z) => say.complex(z)).join("; ");
    return svg(width, height, `Closed-loop poles of the chosen mode: ${list}. The unit circle is the border of stability.`, parts.join(""));
  }

  function drawStep(width, height, scene, look) {
    const box = { left: 42, right: width - 26, top: 10, bottom: height - 32 }, beta = scene.law.reference_gain;
    const curves = [{ ...scene, beta }, ...scene.others.map((o) => ({ law: o.law, mode: o.mode, beta: o.law.reference_gain }))];
    const runs = curves.map((c) => {
      const y = n.stepResponse(c.law, c.mode.alpha, scene.depth);
      return Array.from(y.re, (v, k) => [c.beta * v, c.beta * y.im[k]]);
    });
    const unit = Math.max(...curves.map((c) => Math.abs(c.beta)), 1e-300), range = [Math.min(0, beta), Math.max(0, beta)];
    for (const v of runs.flat(2)) {
      if (!Number.isFinite(v)) continue;
      range[0] = Math.min(range[0], Math.max(v, -2 * unit));
      range[1] = Math.max(range[1], Math.min(v, 2.6 * unit));
    }
    if (range[1] - range[0] < 1e-12) range[1] = range[0] + 1;
    const pad = 0.07 * (range[1] - range[0]);
    const x = (k) => box.left + (k / scene.depth) * (box.right - box.left);
    const y = (v) => box.bottom - ((v - range[0] + pad) / (range[1] - range[0] + 2 * pad)) * (box.bottom - box.top);
    const parts = [frame(box)];
    for (const v of ticks(range[0], range[1], 4)) parts.push(segment(box.left, y(v), box.right, y(v), "x-grid"), text(box.left - 5, y(v) + 4, say.tick(v), "end"));
    const depths = [...new Set(ticks(0, scene.depth, width < 380 ? 4 : 6).map(Math.round))];
    for (const k of depths) parts.push(text(x(k), box.bottom + 14, String(k)));
    parts.push(text((box.left + box.right) / 2, height - 3, "layer"));
    parts.push(segment(box.left, y(beta), box.right, y(beta), "x-goal"), text(box.right + 4, y(beta) + 4, "βr", "start"));
    const ks = Array.from({ length: scene.depth + 1 }, (_, k) => x(k));
    const clip = `clip-path="url(#explorer-step-clip)"`;
    parts.push(`<clipPath id="explorer-step-clip"><rect x="${box.left}" y="${box.top}" width="${at(box.right - box.left)}" height="${at(box.bottom - box.top)}"/></clipPath><g ${clip}>`);
    const final = beta * scene.mode.final[0];
    if (scene.mode.verdict === 0 && Number.isFinite(final)) {
      const half = n.BAND * Math.abs(beta) * n.abs(scene.mode.final);
      parts.push(`<rect class="x-band" x="${box.left}" y="${at(y(final + half))}" width="${at(box.right - box.left)}" height="${at(Math.max(1, y(final - half) - y(final + half)))}"/>`);
      if (scene.mode.settling <= scene.depth) parts.push(segment(x(scene.mode.settling), box.top, x(scene.mode.settling), box.bottom, "x-settle"));
    }
    runs.slice(1).forEach((run, k) => {
      const ys = run.map((v) => y(v[0]));
      parts.push(path(ks, ys, "x-other", lineStyle(look, k)));
      ys.forEach((v, i) => { if (i % Math.ceil(scene.depth / 12) === 0) parts.push(marker(SHAPES[k % SHAPES.length], ks[i], v, 2.6, ownStyle(look, k))); });
    });
    if (scene.mode.alpha[1] !== 0) parts.push(path(ks, runs[0].map((v) => y(v[1])), "x-imaginary"));
    parts.push(path(ks, runs[0].map((v) => y(v[0])), "x-main"));
    runs[0].forEach((v, k) => parts.push(`<circle class="x-dot" cx="${at(ks[k])}" cy="${at(y(v[0]))}" r="2.2"/>`));
    parts.push("</g>");
    const ends = scene.mode.verdict === 0 ? `It ends at ${say.complex([beta * scene.mode.final[0], beta * scene.mode.final[1]])}` : "It does not end at a value";
    return svg(width, height, `State of the chosen mode over ${scene.depth} layers after a step of its reference. ${ends}; settling ${say.settling(scene.mode, n.HORIZON)}.`, parts.join(""));
  }

  function drawBode(width, height, scene, look) {
    const split = height * 0.66, upper = { left: 42, right: width - 10, top: 10, bottom: split - 10 };
    const lower = { left: 42, right: width - 10, top: split + 8, bottom: height - 32 };
    const x = (w) => upper.left + (Math.log(w / FREQUENCIES[0]) / Math.log(Math.PI / FREQUENCIES[0])) * (upper.right - upper.left);
    const decibel = (z) => 20 * Math.log10(n.abs(z)), of = (law, mode, c = n.fraction(law)) => FREQUENCIES.map((w) => n.sensitivity(law, mode.alpha, w, c));
    // Few steps of the frame, so that it rests while a slider moves, and no peak of S is cut off below 120 dB.
    const peakOfS = Number.isFinite(scene.mode.peak) ? scene.mode.peak : 1, top = peakOfS > 1000 ? 120 : peakOfS > 10 ? 60 : 20;
    const range = [-40, top], y = (v) => upper.bottom - ((Math.max(-400, v) - range[0]) / (range[1] - range[0])) * (upper.bottom - upper.top);
    const angle = (v) => lower.bottom - ((v + 180) / 360) * (lower.bottom - lower.top);
    const parts = [frame(upper), frame(lower), `<clipPath id="explorer-bode-clip"><rect x="${upper.left}" y="${upper.top}" width="${at(upper.right - upper.left)}" height="${at(upper.bottom - upper.top)}"/></clipPath>`];
    for (let v = -40; v <= top; v += top > 20 ? 40 : 20) parts.push(segment(upper.left, y(v), upper.right, y(v), v === 0 ? "x-axis" : "x-grid"), text(upper.left - 5, y(v) + 4, say.tick(v), "end"));
    for (const v of [-180, 0, 180]) parts.push(segment(lower.left, angle(v), lower.right, angle(v), "x-grid"), text(lower.left - 5, angle(v) + 4, say.tick(v), "end"));
    for (const [w, name] of [[0.1, "0.1"], [0.3, "0.3"], [1, "1"], [Math.PI, "π"]]) parts.push(segment(x(w), upper.top, x(w), upper.bottom, "x-grid"), segment(x(w), lower.top, x(w), lower.bottom, "x-grid"), text(x(w), lower.bottom + 14, name));
    parts.push(text((upper.left + upper.right) / 2, height - 3, "frequency (rad/layer)"));
    parts.push(text(upper.left + 6, upper.top + 13, "dB", "start"), text(lower.left + 6, lower.top + 12, "degrees", "start"));
    const xs = FREQUENCIES.map(x), own = of(scene.law, scene.mode), dim = scene.mode.verdict === 0 ? "" : " x-formal";
    parts.push(`<g clip-path="url(#explorer-bode-clip)">`);
    scene.others.forEach((other, k) => {
      const response = of(other.law, other.mode), s = response.map((r) => y(decibel(r.S)));
      parts.push(path(xs, s, "x-other", lineStyle(look, k)), path(xs, response.map((r) => y(decibel(r.T))), "x-other x-dashed", lineStyle(look, k)));
      for (let i = 15; i < xs.length; i += 33) parts.push(marker(SHAPES[k % SHAPES.length], xs[i], s[i], 2.6, ownStyle(look, k)));
    });
    parts.push(path(xs, own.map((r) => y(decibel(r.T))), `x-second${dim}`), path(xs, own.map((r) => y(decibel(r.S))), `x-main${dim}`), "</g>");
    for (const [name, kind] of [["T", "x-second"], ["S", "x-main"]]) {
      const turns = own.map((r) => (Math.atan2(r[name][1], r[name][0]) * 180) / Math.PI);
      const shown = turns.map((v, k) => (n.abs(own[k][name]) === 0 || (k > 0 && Math.abs(v - turns[k - 1]) > 180) ? NaN : angle(v)));
      parts.push(path(xs, shown, kind + dim));
    }
    const peak = Number.isFinite(scene.mode.peak) ? `max |S| is ${say.number(scene.mode.peak)}` : "the loop is not stable, so that no settled response exists";
    return svg(width, height, `Sensitivity S and complementary sensitivity T of the chosen mode over frequency; ${peak}.`, parts.join(""));
  }

  const frame = (box) => `<rect class="x-frame" x="${box.left}" y="${box.top}" width="${at(box.right - box.left)}" height="${at(box.bottom - box.top)}"/>`;

  /** About `count` round numbers between low and high. */
  function ticks(low, high, count) {
    const raw = (high - low) / count, power = 10 ** Math.floor(Math.log10(raw));
    const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= raw * 0.999), result = [];
    for (let k = Math.ceil(low / step - 1e-9); k * step <= high + 1e-9 * step; k++) result.push(k * step);
    return result;
  }

  return { VIEW, SHAPES, geometry, positions, drawPlane, drawPoles, drawStep, drawBode, marker };
})();
