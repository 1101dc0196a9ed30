"use strict";
// The plots, drawn from the same numbers as the tables beside them. Colours are variables of the style, so a change of theme redraws nothing.
const charts = (() => {
  const LOOKS = [
    { colour: "var(--c0)", dash: "none", symbol: "circle" },
    { colour: "var(--c1)", dash: "7 4", symbol: "triangle" },
    { colour: "var(--c2)", dash: "2 3", symbol: "square" },
    { colour: "var(--c3)", dash: "9 3 2 3", symbol: "diamond" },
    { colour: "var(--c4)", dash: "4 4", symbol: "times" },
    { colour: "var(--c5)", dash: "12 4", symbol: "plus" },
  ];
  const FORMS = {
    percent: (value) => `${(100 * value).toFixed(0)}%`.replace(/^-0%/, "0%"),
    share: (value) => `${(100 * value).toFixed(value < 0.1 ? 1 : 0)}%`,
    times: (value) => `${value.toFixed(2)}x`,
    number: (value) => value.toFixed(2),
    points: (value) => `${Math.abs(value) < 0.0005 ? "" : value > 0 ? "+" : "−"}${Math.abs(100 * value).toFixed(1)}`,
  };
  const TICKS = {
    percent: (value) => `${Math.round(100 * value)}%`,
    share: (value) => `${Math.round(100 * value)}%`,
    times: (value) => `${+value.toFixed(2)}x`,
    number: (value) => `${+value.toFixed(2)}`,
    points: (value) => `${Math.round(100 * value)}`,
  };
  const look = (number) => LOOKS[number % LOOKS.length];
  const told = (form, [value, low, high]) =>
    low === null ? FORMS[form](value) : `${FORMS[form](value)} [${FORMS[form](low)}, ${FORMS[form](high)}]`;
  const tip = (rows, options, pointer) =>
    Plot.tip(rows, pointer({ ...options, fill: "var(--panel)", stroke: "var(--line-strong)", textPadding: 7, lineHeight: 1.25, pathFilter: null }));
  const end = (...ends) => { const known = ends.flat().filter((one) => one !== null && Number.isFinite(one)); return known; };

  function upward(chart) {
    const values = end(chart.series.flatMap((one) => one.points.flat()), chart.rule);
    const low = chart.low === null ? Math.min(...values) : Math.min(chart.low, ...values);
    const high = Math.max(chart.top === null ? -Infinity : chart.top, ...values);
    return [low, high > low ? high : low + 1];
  }

  function lines(chart, width) {
    const rows = chart.series.flatMap((one) =>
      one.points.map((point, place) => ({ name: one.name, look: one.look, place, point, value: point[0], low: point[1], high: point[2] })),
    );
    const known = rows.filter((row) => row.value !== null);
    const last = chart.ticks.length - 1, room = Math.max(1, Math.floor((width - 70) / (10 + 7 * Math.max(...chart.ticks.map((tick) => tick.length)))));
    const step = Math.ceil(chart.ticks.length / room);
    const ticks = chart.ticks.map((_, place) => place).filter((place) => place % step === 0);
    const marks = chart.series.flatMap((one) => {
      const own = known.filter((row) => row.name === one.name), { colour, dash, symbol } = look(one.look);
      const banded = own.filter((row) => row.low !== null);
      return [
        Plot.areaY(banded, { x: "place", y1: "low", y2: "high", fill: colour, fillOpacity: 0.13 }),
        Plot.ruleX(banded, { x: "place", y1: "low", y2: "high", stroke: colour, strokeOpacity: 0.45, strokeWidth: 1 }),
        Plot.lineY(own, { x: "place", y: "value", stroke: colour, strokeWidth: 2, strokeDasharray: dash }),
        Plot.dot(own, { x: "place", y: "value", stroke: colour, fill: one.look % 6 === 0 ? "var(--panel)" : colour, symbol, r: 4, strokeWidth: 1.6 }),
      ];
    });
    const titled = known.map((row) => ({ ...row, said: `${row.name}\n${chart.across} ${chart.ticks[row.place]}: ${told(chart.form, row.point)}` }));
    return Plot.plot({
      width,
      height: Math.max(200, Math.min(340, Math.round(width * 0.62))),
      marginLeft: 52, marginRight: 18, marginTop: 26, marginBottom: 40, insetLeft: 8, insetRight: 8,
      x: { type: "linear", domain: [0, Math.max(last, 1)], ticks, tickFormat: (place) => chart.ticks[place] ?? "", label: chart.across, labelAnchor: "center", labelArrow: "none", tickSize: 0 },
      y: { domain: upward(chart), nice: true, grid: true, ticks: 5, tickFormat: TICKS[chart.form], label: chart.upward, labelArrow: "none", tickSize: 0 },
      marks: [
        ...(chart.rule === null ? [] : [Plot.ruleY([chart.rule], { stroke: "var(--soft)", strokeWidth: 1.5 })]),
        ...marks,
        tip(titled, { x: "place", y: "value", title: "said" }, Plot.pointer),
      ],
    });
  }

  const shorter = (text, most) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);

  function forest(chart, width) {
    const names = chart.rows.map((_, place) => String(place));
    const most = width < 520 ? 20 : 44, letters = Math.max(...chart.rows.map((row) => Math.min(row.name.length, most)));
    const rows = chart.rows.map((row, place) => ({ ...row, at: String(place), value: row.point[0], low: row.point[1], high: row.point[2], said: `${row.name}${row.group ? ` (${row.group})` : ""}\n${told(chart.form, row.point)}` }));
    const banded = rows.filter((row) => row.low !== null), values = end(rows.flatMap((row) => row.point), chart.rule);
    const pad = 0.04 * (Math.max(...values) - Math.min(...values) || 1);
    const kinds = [...new Set(rows.map((row) => row.look))];
    return Plot.plot({
      width,
      height: 44 + 24 * rows.length,
      marginLeft: 14 + Math.ceil(6.7 * letters), marginRight: 18, marginTop: 8, marginBottom: 28,
      x: { domain: [Math.min(...values) - pad, Math.max(...values) + pad], grid: true, ticks: width < 520 ? 3 : 8, tickFormat: TICKS[chart.form], label: null, tickSize: 0 },
      y: { type: "point", domain: names, label: null, tickFormat: (place) => shorter(chart.rows[place].name, most), tickSize: 0, padding: 0.6 },
      marks: [
        Plot.ruleX([chart.rule], { stroke: "var(--soft)", strokeWidth: 1.5 }),
        ...kinds.flatMap((kind) => {
          const { colour, symbol } = look(kind), own = { y: "at", stroke: colour };
          return [
            Plot.ruleY(banded.filter((row) => row.look === kind), { ...own, x1: "low", x2: "high", strokeWidth: 2 }),
            Plot.dot(rows.filter((row) => row.look === kind), { ...own, x: "value", fill: colour, symbol, r: 4.5 }),
          ];
        }),
        tip(rows, { x: "value", y: "at", title: "said" }, Plot.pointerY),
      ],
    });
  }

  function heat(chart, width, choice) {
    const grid = chart.cells[choice] || Object.values(chart.cells)[0];
    const cells = grid.flatMap((row, at) => row.map((value, place) => ({ at: String(at), place: String(place), value, said: value === null ? "" : `${chart.rows[at]}, depth ${chart.ticks[place]}\n${FORMS[chart.form](value)}` }))).filter((cell) => cell.value !== null);
    const most = Math.max(0.01, ...Object.values(chart.cells).flat(2).filter((value) => value !== null).map(Math.abs));
    const letters = Math.max(...chart.rows.map((row) => row.length)), many = chart.ticks.length;
    const room = (width - 7 * letters - 30) / many, written = room >= 38;
    const strength = (value) => Math.min(1, Math.abs(value) / most);
    return Plot.plot({
      width,
      height: 56 + 26 * chart.rows.length,
      marginLeft: 14 + Math.ceil(6.7 * letters), marginRight: 8, marginTop: 6, marginBottom: 40, padding: 0.06,
      x: { type: "band", domain: chart.ticks.map((_, place) => String(place)), tickFormat: (place) => chart.ticks[place], ticks: chart.ticks.map((_, place) => String(place)).filter((_, place) => place % Math.ceil(16 / Math.max(room, 1)) === 0), label: "depth", labelAnchor: "center", labelArrow: "none", tickSize: 0 },
      y: { type: "band", domain: chart.rows.map((_, at) => String(at)), tickFormat: (at) => chart.rows[at], label: null, tickSize: 0 },
      marks: [
        Plot.cell(cells, { x: "place", y: "at", fill: "var(--quiet)" }),
        Plot.cell(cells, { x: "place", y: "at", fill: (cell) => (cell.value < 0 ? "var(--c0)" : "var(--c1)"), fillOpacity: (cell) => 0.85 * strength(cell.value) }),
        ...(written ? [Plot.text(cells, { x: "place", y: "at", text: (cell) => FORMS[chart.form](cell.value), fill: "var(--ink)", fontSize: 11 })] : []),
        tip(cells, { x: "place", y: "at", title: "said" }, Plot.pointer),
      ],
      color: { type: "identity" }, opacity: { type: "identity" },
    });
  }

  // Shares of attention of a chain and its control, depth by depth, as bars of regions that sum to 1.
  function bars(rows, regions, width) {
    const feeds = [...new Set(rows.map((row) => row.feed))];
    return Plot.plot({
      width,
      height: 40 + rows.length / regions.length * 17,
      marginLeft: 70, marginRight: 48, marginTop: 14, marginBottom: 34,
      x: { domain: [0, 1], tickFormat: TICKS.share, label: "share of attention", labelAnchor: "center", labelArrow: "none", tickSize: 0, ticks: 5 },
      y: { type: "band", domain: feeds, label: null, padding: 0.12, tickSize: 0 },
      fy: { label: "depth", labelAnchor: "top", padding: 0.18 },
      marks: [
        Plot.barX(rows, { x1: "from", x2: "to", y: "feed", fy: "depth", fill: (row) => `var(--r${row.region})`, stroke: "var(--panel)", strokeWidth: 1 }),
        Plot.tip(rows, Plot.pointer({ x: (row) => (row.from + row.to) / 2, y: "feed", fy: "depth", title: "said", fill: "var(--panel)", stroke: "var(--line-strong)", pathFilter: null })),
      ],
      color: { type: "identity" },
    });
  }

  const DRAW = { lines, forest, heat };

  // Plot carries a style element of its own, which the page's policy would refuse; the same rules stand in the page's style.
  function put(place, plot) {
    for (const own of plot.querySelectorAll("style")) own.remove();
    plot.setAttribute("aria-hidden", "true");
    place.replaceChildren(plot);
  }

  function draw(place, chart) {
    const width = Math.floor(place.clientWidth);
    if (width < 50 || place.dataset.width === `${width} ${place.dataset.choice}`) return;
    place.dataset.width = `${width} ${place.dataset.choice}`;
    put(place, DRAW[chart.kind](chart, width, place.dataset.choice));
  }

  return { draw, put, bars, FORMS };
})();
