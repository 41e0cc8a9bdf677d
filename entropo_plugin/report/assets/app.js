"use strict";
// Draws every chart of the page with uPlot from the numbers in #data, and does what the bar at the top is set to.
(() => {
  const { runs, charts } = JSON.parse(document.getElementById("data").textContent);
  const $ = (id) => document.getElementById(id);
  const state = { x: "step", smooth: 4, log: false, mean: runs.some((run) => run.seeds > 1), hidden: new Set(), zoom: null };
  const DASHES = [[], [10, 4], [10, 3, 2, 3], [5, 3], [14, 3, 2, 3, 2, 3], [3, 3]];
  const TARGET = [2, 3], MARKED = DASHES.length;
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  // Numbers
  const show = (v, digits = 4) => {
    if (v == null) return "";
    const size = Math.abs(v);
    const text = v === 0 ? "0" : size >= 1e7 || size < 1e-4 ? v.toExponential(2) : size >= 1000 ? v.toFixed(0) : String(+v.toPrecision(digits));
    return text.replace("-", "\u2212");
  };
  const tick = (v) => {
    if (v == null) return "";
    const size = Math.abs(v), [by, unit] = size >= 1e9 ? [1e9, "G"] : size >= 1e6 ? [1e6, "M"] : size >= 1e4 ? [1e3, "k"] : [1, ""];
    return show(v / by) + unit;
  };
  // Linear interpolation of (xs, ys) at x; null outside.
  const at = (xs, ys, x) => {
    if (!xs.length || x < xs[0] || x > xs[xs.length - 1]) return null;
    let low = 0, high = xs.length - 1;
    while (high - low > 1) { const middle = (low + high) >> 1; if (xs[middle] <= x) low = middle; else high = middle; }
    return xs[high] === xs[low] ? ys[low] : ys[low] + ((x - xs[low]) / (xs[high] - xs[low])) * (ys[high] - ys[low]);
  };
  const running = (values, share) => {
    const half = Math.floor((share * values.length) / 200);
    if (half < 1) return null;
    const sums = [0];
    for (const value of values) sums.push(sums[sums.length - 1] + value);
    return values.map((_, i) => {
      const low = Math.max(0, i - half), high = Math.min(values.length, i + half + 1);
      return (sums[high] - sums[low]) / (high - low);
    });
  };

  // A run's place on the chosen axis; a run that has no such clock is not drawn over it.
  const placed = (chart, run, xs) => {
    if (chart.x_label !== "step" || state.x === "step") return xs;
    const clock = runs[run][state.x];
    return clock ? xs.map((x) => at(clock[0], clock[1], x)) : null;
  };
  const kept = (xs, ...columns) => {
    const keep = xs.map((x, i) => x != null && (!state.log || columns.every((ys) => ys[i] > 0)));
    return [xs, ...columns].map((column) => column.filter((_, i) => keep[i]));
  };

  const keyOf = (run) => (state.mean ? "group " + runs[run].group : run);
  const shown = ({ run }) => !state.hidden.has(keyOf(run));
  const look = (run) => ({ colour: css("--c" + runs[run].colour), dash: DASHES[runs[run].dash % MARKED], marked: runs[run].dash >= MARKED });
  // Seeds of one configuration over the steps that all of them have.
  const spread = (parts) => {
    const low = Math.max(...parts.map(([x]) => x[0])), high = Math.min(...parts.map(([x]) => x[x.length - 1]));
    const xs = [...new Set(parts.flatMap(([x]) => x))].filter((x) => x >= low && x <= high).sort((a, b) => a - b);
    const columns = xs.map((x) => parts.map(([px, py]) => at(px, py, x)));
    const mean = columns.map((c) => c.reduce((sum, v) => sum + v, 0) / c.length);
    return [xs, mean, columns.map((c) => Math.min(...c)), columns.map((c) => Math.max(...c))];
  };
  // A chart's lines as {x, y, label, colour, dash, ...}, and its bands as pairs of lines.
  const linesOf = (chart) => {
    const lines = [], bands = [], seeds = new Map();
    const band = (run, x, low, high, alpha) => {
      for (const y of [high, low]) lines.push({ ...look(run), edge: true, x, y });
      bands.push({ series: [lines.length - 1, lines.length], fill: look(run).colour + alpha });
    };
    const over = (run, xs, ...columns) => { const x = placed(chart, run, xs); return x && kept(x, ...columns); };
    for (const each of chart.bands.filter(shown)) {
      const sides = over(each.run, each.x, each.low, each.high);
      if (sides) band(each.run, ...sides, each === chart.bands[0] ? "2b" : "40");
    }
    for (const { run, label, style, points, means } of chart.curves.filter(shown)) {
      const together = state.mean && runs[run].seeds > 1 && style !== "dots";
      const [mx, my] = means || points, smooth = style === "noisy" && state.smooth ? running(my, state.smooth) : null;
      const trace = over(run, ...points), line = smooth ? over(run, mx, smooth) : trace;
      if (!line) continue;
      if (together) {
        const role = label.slice(runs[run].name.length), key = runs[run].group + role + style;
        if (!seeds.has(key)) seeds.set(key, { run, role, style, parts: [] });
        if (line[0].length) seeds.get(key).parts.push(line);
        continue;
      }
      if (smooth) lines.push({ ...look(run), style, x: trace[0], y: trace[1], faint: true, dash: [] });
      lines.push({ ...look(run), label, style, x: line[0], y: line[1] });
    }
    for (const { run, role, style, parts } of seeds.values()) {
      if (!parts.length) continue;
      const [x, y, low, high] = spread(parts);
      if (style !== "dashed" && parts.length > 1) band(run, x, low, high, "26");
      lines.push({ ...look(run), dash: [], marked: false, style, label: runs[run].groupName + role, x, y });
    }
    return { lines, bands };
  };

  const seriesOf = (line) => {
    const dots = line.style === "dots", points = dots || line.style === "line-dots" || line.marked || line.x.length === 1;
    const thin = line.style === "dashed";
    return {
      label: line.label || "", stroke: line.colour, spanGaps: true, alpha: line.faint ? 0.28 : 1,
      width: line.edge ? 0 : line.faint ? 1 : thin ? 1.5 : 2, dash: thin ? TARGET : line.dash,
      paths: dots ? () => null : line.style === "step" ? uPlot.paths.stepped({ align: 1 }) : undefined,
      points: { show: !line.edge && !line.faint && points, size: dots ? 6 : 7, width: 0, fill: line.colour },
    };
  };

  const plots = new Map();
  const range = (chart) => (plot, low, high) => {
    if (low == null) return [0, 1];
    if (state.log) return uPlot.rangeLog(low, high, 10, false);
    if (chart.limits && chart.bands.length) [low, high] = chart.limits;
    const air = high > low ? (high - low) * 0.06 : Math.abs(low) * 0.1 || 1;
    return [chart.zero && low >= 0 ? 0 : low - air, high + air];
  };
  const options = (chart, node, lines, bands, xs) => {
    const soft = css("--soft"), grid = { stroke: css("--grid"), width: 1 }, font = "12px " + getComputedStyle(document.body).fontFamily;
    const axis = { stroke: soft, grid, ticks: { show: false }, font, labelFont: font };
    const whole = chart.x_label === "step" && state.x === "step";
    const label = chart.x_label === "step" ? state.x : chart.x_label;
    return {
      width: Math.max(200, node.clientWidth), height: node.clientHeight || 240, padding: [10, 14, 0, 0],
      scales: {
        x: { time: false, ...(chart.log_x ? { distr: 3, log: 2, range: (u, a, b) => [a / 1.1, b * 1.1] } : {}) },
        y: { range: range(chart), ...(state.log ? { distr: 3, log: 10 } : {}) },
      },
      axes: [
        { ...axis, label, labelSize: 20, size: 28, values: (u, s) => s.map(tick), ...(whole ? { incrs: [1, 2, 5, 10, 20, 25, 50, 100, 200, 250, 500, 1e3, 2e3, 2500, 5e3, 1e4, 2e4, 5e4, 1e5, 2e5, 5e5, 1e6] } : {}), ...(chart.log_x ? { splits: () => xs, filter: (u, s) => s } : {}) },
        { ...axis, size: 50, values: (u, s) => s.map((v) => tick(v)) },
      ],
      legend: { show: false },
      series: [{}, ...lines.map(seriesOf)], bands,
      cursor: {
        y: false, points: { size: (u, i) => (lines[i - 1].label ? 8 : 0) },
        drag: { x: true, y: false, dist: 5 }, bind: { dblclick: () => () => zoom(null) },
        ...(chart.x_label === "step" ? { sync: { key: "steps", filters: { pub: (type) => type === "mousemove" || type === "mouseleave" } } } : {}),
        // Lines of different runs rarely share their steps: each is read off at its own nearest point.
        dataIdx: (u, i, closest) => near(u.data[i], u.data[0], closest),
      },
      hooks: {
        setCursor: [(u) => readOut(chart, node, u, lines)],
        setSelect: [(u) => { if (u.select.width > 4) zoom([u.posToVal(u.select.left, "x"), u.posToVal(u.select.left + u.select.width, "x")], chart, u); }],
      },
    };
  };
  const near = (ys, xs, place) => {
    for (let step = 0; step < 200; step++) for (const i of [place - step, place + step]) if (ys[i] != null) return i;
    return place;
  };

  // The read-out beside the pointer
  const readOut = (chart, node, u, lines) => {
    node.querySelector(".tip")?.remove();
    const { left, idx } = u.cursor;
    if (left == null || left < 0 || idx == null || !node.matches(":hover, :focus")) return;
    const tip = document.createElement("div");
    tip.className = "tip"; tip.setAttribute("role", "status");
    const row = (label, value, colour) => {
      const line = document.createElement("div"), name = document.createElement("span"), number = document.createElement("b");
      name.textContent = label; number.textContent = value;
      if (colour) name.style.borderColor = colour; else line.className = "head";
      line.append(name, number); tip.append(line);
    };
    row(chart.x_label === "step" ? state.x : chart.x_label, show(u.data[0][idx], 5));
    lines.forEach((line, i) => {
      if (!line.label) return;
      const at = near(u.data[i + 1], u.data[0], idx), y = u.data[i + 1][at];
      if (y != null && Math.abs(u.valToPos(u.data[0][at], "x") - left) < 24) row(line.label, show(y), line.colour);
    });
    if (tip.children.length < 2) return;
    node.append(tip);
    const place = u.over.offsetLeft + left, over = place + tip.offsetWidth + 20 > node.clientWidth;
    tip.style.left = Math.max(0, over ? place - tip.offsetWidth - 12 : place + 14) + "px";
  };
  const keys = (node) => (event) => {
    const u = plots.get(node), step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!u) return;
    if (event.key === "Escape") zoom(null);
    if (!step) return;
    event.preventDefault();
    const { min, max } = u.scales.x, xs = u.data[0];
    let i = Math.min(xs.length - 1, Math.max(0, (u.cursor.idx ?? (step > 0 ? -1 : xs.length)) + step));
    while (xs[i] < min && i < xs.length - 1) i++;
    while (xs[i] > max && i > 0) i--;
    u.setCursor({ left: u.valToPos(xs[i], "x"), top: 1 });
  };

  // What is zoomed is the run: every chart over the same axis follows.
  const zoom = (limits, chart, own) => {
    if (chart && chart.x_label !== "step") { own.setScale("x", { min: limits[0], max: limits[1] }); }
    else state.zoom = limits;
    $("reset").hidden = !state.zoom && !chart;
    for (const [node, plot] of plots) {
      if (!limits && charts[node.parentNode.dataset.chart].x_label !== "step") plot.setData(plot.data);
      else applyZoom(node, plot);
      if (plot.select.width) plot.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
    }
  };
  const applyZoom = (node, plot) => {
    if (charts[node.parentNode.dataset.chart].x_label !== "step") return;
    const xs = plot.data[0], [min, max] = state.zoom || [xs[0], xs[xs.length - 1]];
    if (xs.length) plot.setScale("x", min < max ? { min, max } : { min: min - 1, max: max + 1 });
  };

  const draw = (node) => {
    const figure = node.parentNode, chart = charts[figure.dataset.chart];
    plots.get(node)?.destroy(); plots.delete(node);
    node.querySelector(".tip")?.remove();
    const { lines, bands } = linesOf(chart);
    node.dataset.lines = lines.filter((line) => line.label).map((line) => line.label).join("|");
    node.setAttribute("role", "img");
    node.setAttribute("aria-label", `${chart.title}. ${chart.y_label} against ${chart.x_label}. ` + lines.filter((l) => l.label && l.y.length).map((l) => `${l.label}: from ${show(l.y[0])} to ${show(l.y[l.y.length - 1])}.`).join(" "));
    const data = lines.length ? uPlot.join(lines.map((line) => [line.x, line.y])) : [[], []];
    const plot = new uPlot(options(chart, node, lines, bands, data[0]), data, node);
    plots.set(node, plot);
    if (state.zoom) applyZoom(node, plot);
  };
  let waiting = 0;
  const redraw = () => { clearTimeout(waiting); waiting = setTimeout(drawAll, 15); };
  const drawAll = () => { document.querySelectorAll(".chart").forEach(draw); legend(); };

  // The legend: one entry a run, or one a configuration while its seeds are drawn as their mean.
  const legend = () => {
    const seen = new Set(), entries = [];
    runs.forEach((run, place) => {
      const key = keyOf(place);
      if (seen.has(key)) return;
      seen.add(key);
      const button = document.createElement("button");
      button.type = "button"; button.setAttribute("aria-pressed", String(!state.hidden.has(key)));
      button.innerHTML = swatch(run) + "<span></span><small></small>"; // numbers alone; what a run is called is text
      button.children[1].textContent = state.mean ? run.groupName : run.name;
      button.children[2].textContent = state.mean && run.seeds > 1 ? `${run.seeds} seeds` : `${run.last} steps`;
      button.addEventListener("click", () => { if (!state.hidden.delete(key)) state.hidden.add(key); redraw(); });
      entries.push(button);
    });
    const focus = [...$("legend").children].indexOf(document.activeElement);
    $("legend").replaceChildren(...entries);
    if (focus >= 0) entries[focus]?.focus();
  };
  const swatch = (run) => {
    const dash = state.mean ? [] : DASHES[run.dash % MARKED], dot = !state.mean && run.dash >= MARKED;
    const line = `<path d="M1 5H27" stroke-dasharray="${dash.join(" ") || "none"}"/>`;
    return `<svg viewBox="0 0 28 10" aria-hidden="true" class="c${run.colour}">${line}${dot ? '<circle cx="14" cy="5" r="3.5"/>' : ""}</svg>`;
  };

  // CSV: what was logged, before smoothing, of the runs that are shown.
  const csv = (chart) => {
    const curves = chart.curves.filter(shown);
    const table = curves.length ? uPlot.join(curves.map((curve) => curve.points)) : [[]];
    const cell = (value) => {
      const text = value == null ? "" : typeof value === "number" ? String(value) : /^[=+\-@\t]/.test(value) ? "'" + value : value;
      return /[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
    };
    const rows = [[chart.x_label, ...curves.map((curve) => curve.label)], ...table[0].map((_, i) => table.map((column) => column[i]))];
    return rows.map((row) => row.map(cell).join(",")).join("\n") + "\n";
  };
  const save = (name, text) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
    link.download = name; link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  };

  // The bar
  const has = (unit) => runs.some((run) => run[unit]);
  for (const option of $("x").options) option.disabled = option.value !== "step" && !has(option.value);
  $("by").hidden = !has("tokens") && !has("hours");
  $("seeds").hidden = !runs.some((run) => run.seeds > 1);
  $("mean").checked = state.mean; $("smooth").value = state.smooth; $("log").checked = false; $("x").value = "step";
  $("x").addEventListener("change", (event) => { state.x = event.target.value; state.zoom = null; $("reset").hidden = true; redraw(); });
  $("smooth").addEventListener("input", (event) => { state.smooth = +event.target.value; redraw(); });
  $("log").addEventListener("change", (event) => { state.log = event.target.checked; redraw(); });
  $("mean").addEventListener("change", (event) => { state.mean = event.target.checked; state.hidden.clear(); redraw(); });
  $("reset").addEventListener("click", () => zoom(null));
  for (const node of document.querySelectorAll(".chart")) {
    const ident = node.parentNode.dataset.chart;
    node.addEventListener("keydown", keys(node));
    node.addEventListener("blur", () => { node.querySelector(".tip")?.remove(); plots.get(node).setCursor({ left: -10, top: -10 }); });
    node.parentNode.querySelector(".csv").addEventListener("click", () => save(ident + ".csv", csv(charts[ident])));
    new ResizeObserver(() => { const plot = plots.get(node); if (plot && plot.width !== node.clientWidth) plot.setSize({ width: node.clientWidth, height: node.clientHeight }); }).observe(node);
  }
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  drawAll();
})();
