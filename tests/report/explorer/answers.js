// What the page's own functions answer to many settings; the same in node and in a browser.
function answers(settings, numerics, region) {
  const text = (key, x) => (typeof x === "number" && !Number.isFinite(x) ? String(x) : x);
  const all = settings.map((law) => {
    const alpha = numerics.openLoopPole(law, law.a), mode = numerics.describeMode(law, law.a);
    const y = numerics.stepResponse(law, alpha, 40), bode = law.omega.map((w) => numerics.sensitivity(law, alpha, w));
    return {
      poles: mode.poles, verdict: mode.verdict, radius: mode.radius, final: mode.final, settling: mode.settling,
      overshoot: mode.overshoot, peak: mode.peak, alpha,
      many: numerics.verdicts(law, [law.a[0]], [law.a[1]], [9])[0], intervals: numerics.modeIntervals(law),
      boundary: law.omega.map((w) => numerics.regionBoundary(law, w)),
      S: bode.map((b) => b.S), T: bode.map((b) => b.T), y: Array.from(y.re, (v, k) => [v, y.im[k]]),
      spans: region.spans(law, law.heights),
    };
  });
  return JSON.stringify(all, text);
}
