"use strict";
// Reads values off a chart: with the pointer, or with the arrow keys once the chart has the focus.
(() => {
  const NS = "http://www.w3.org/2000/svg";
  const show = (v) => {
    if (v === 0) return "0";
    const size = Math.abs(v);
    const text = size >= 1e7 || size < 1e-4 ? v.toExponential(2) : size >= 1000 ? v.toFixed(0) : String(+v.toPrecision(4));
    return text.replace("-", "\u2212");
  };
  const read = (path) => Array.from(path.getAttribute("d").matchAll(/[MLH](-?[\d.]+)[ V](-?[\d.]+)/g), (m) => [+m[1], +m[2]]);
  const nearest = (points, x) => {
    let best = points[0];
    for (const p of points) if (Math.abs(p[0] - x) < Math.abs(best[0] - x)) best = p;
    return best;
  };

  for (const svg of document.querySelectorAll("svg.chart")) {
    const [xLow, xHigh, xStart, xEnd, log] = svg.dataset.x.split(",").map(Number);
    const [yLow, yHigh, yStart, yEnd] = svg.dataset.y.split(",").map(Number);
    const xAt = (px) => {
      const share = (px - xStart) / (xEnd - xStart);
      return log ? xLow * Math.pow(xHigh / xLow, share) : xLow + share * (xHigh - xLow);
    };
    const yAt = (py) => yLow + ((py - yStart) / (yEnd - yStart)) * (yHigh - yLow);
    const whole = svg.dataset.name === "step" || log;
    let curves = null, tip = null, layer = null, place = xEnd;

    const clear = () => { if (tip) { tip.remove(); layer.remove(); tip = layer = null; } };
    const add = (name, attributes) => {
      const node = document.createElementNS(NS, name);
      for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
      return layer.appendChild(node);
    };
    const row = (first, second, kind) => {
      const line = document.createElement("div"), label = document.createElement("span"), value = document.createElement("b");
      if (kind) line.className = kind;
      label.textContent = first; value.textContent = second;
      line.append(label, value); tip.append(line);
    };
    const mark = (px) => {
      curves = curves || Array.from(svg.querySelectorAll("[data-label]"), (path) => ({ path, points: read(path) }));
      const reach = curves.filter((c) => c.points.length).map((c) => ({ ...c, at: nearest(c.points, px) }));
      if (!reach.length) return;
      clear();
      place = reach.reduce((best, c) => (Math.abs(c.at[0] - px) < Math.abs(best - px) ? c.at[0] : best), reach[0].at[0]);
      layer = svg.appendChild(document.createElementNS(NS, "g"));
      tip = document.createElement("div"); tip.className = "tip"; tip.setAttribute("role", "status");
      add("line", { class: "cursor", x1: place, x2: place, y1: yEnd, y2: yStart });
      const at = xAt(place);
      row(svg.dataset.name, whole ? String(Math.round(at)) : show(at), "head");
      for (const c of reach) {
        if (Math.abs(c.at[0] - place) > 14) continue;
        const colour = Array.from(c.path.classList).find((name) => /^c\d$/.test(name));
        add("circle", { class: "spot " + colour, cx: c.at[0], cy: c.at[1], r: 4 });
        row(c.path.dataset.label, show(yAt(c.at[1])));
      }
      svg.parentNode.append(tip);
      const box = svg.getBoundingClientRect(), scale = box.width / svg.viewBox.baseVal.width;
      const left = place * scale, over = left + tip.offsetWidth + 16 > box.width;
      tip.style.left = Math.max(0, over ? left - tip.offsetWidth - 12 : left + 12) + "px";
      tip.style.top = box.top - svg.parentNode.getBoundingClientRect().top + 8 + "px";
    };
    svg.addEventListener("pointermove", (event) => {
      const box = svg.getBoundingClientRect();
      mark(((event.clientX - box.left) / box.width) * svg.viewBox.baseVal.width);
    });
    svg.addEventListener("pointerleave", clear);
    svg.addEventListener("blur", clear);
    svg.addEventListener("focus", () => { if (svg.matches(":focus-visible")) mark(place); });
    svg.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (event.key === "Escape") clear();
      if (!step) return;
      event.preventDefault();
      mark(Math.min(xEnd, Math.max(xStart, place + (step * (xEnd - xStart)) / 40)));
    });
  }
})();
