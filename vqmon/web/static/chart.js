// The chart of a stream: a line per rendition, gaps and marks for unscored segments, shaded time of alerts.
"use strict";
(() => {
  const box = document.getElementById("chart");
  const readout = document.getElementById("chart-reading");
  const DASHES = [[], [7, 3], [2, 3], [9, 3, 2, 3], [4, 2], [1, 2]];
  const MAX_POINTS = 4000;
  let data = null;
  let plot = null;
  let xs = [];

  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
  const clock = (seconds) => new Date(seconds * 1000).toISOString().slice(11, 19);

  // ---- data: one x axis for all renditions; null interrupts a line, undefined does not
  function columns() {
    return uPlot.join(data.renditions.map((line) => [line.at, line.value]));
  }
  function scale() {
    const ends = data.follows ? Math.max(data.ends_at, xs.length ? xs[xs.length - 1] : 0) : data.ends_at;
    return { min: Math.max(data.begins_at, ends - data.longest_seconds), max: ends };
  }

  // ---- layers under and over the lines
  function drawAlerts(chart) {
    const { ctx, bbox } = chart;
    ctx.save();
    ctx.beginPath();
    ctx.rect(bbox.left, bbox.top - 14, bbox.width, bbox.height + 14);
    ctx.clip();
    for (const alert of data.alerts) {
      const ink = colour(alert.severity === "page" ? "failing" : "degraded");
      const left = chart.valToPos(alert.began_at, "x", true);
      const opened = chart.valToPos(alert.opened_at, "x", true);
      const right = alert.resolved_at === null ? bbox.left + bbox.width : chart.valToPos(alert.resolved_at, "x", true);
      ctx.globalAlpha = 0.1;
      ctx.fillStyle = ink;
      ctx.fillRect(left, bbox.top, right - left, bbox.height);
      ctx.globalAlpha = 1;
      ctx.strokeStyle = ink;
      ctx.lineWidth = devicePixelRatio;
      ctx.beginPath();
      ctx.moveTo(opened, bbox.top);
      ctx.lineTo(opened, bbox.top + bbox.height);
      ctx.stroke();
      const size = 5 * devicePixelRatio;
      ctx.beginPath();
      ctx.moveTo(opened - size, bbox.top - 2 * size);
      ctx.lineTo(opened + size, bbox.top - 2 * size);
      ctx.lineTo(opened, bbox.top);
      ctx.fill();
    }
    ctx.restore();
  }
  function drawBaseline(chart) {
    // the baseline, and the band in which 95 % of scores lie while nothing changes
    const { ctx, bbox } = chart;
    ctx.save();
    for (const band of data.bands || []) {
      const index = data.renditions.findIndex((line) => line.name === band.rendition);
      if (index < 0) continue;
      const y = (value) => chart.valToPos(Math.min(100, Math.max(0, value)), "y", true);
      ctx.fillStyle = ctx.strokeStyle = colour(`s${index % 6}`);
      ctx.globalAlpha = 0.1;
      ctx.fillRect(bbox.left, y(band.high), bbox.width, y(band.low) - y(band.high));
      ctx.globalAlpha = 0.55;
      ctx.lineWidth = devicePixelRatio;
      ctx.setLineDash([2 * devicePixelRatio, 4 * devicePixelRatio]);
      ctx.beginPath();
      ctx.moveTo(bbox.left, y(band.usual));
      ctx.lineTo(bbox.left + bbox.width, y(band.usual));
      ctx.stroke();
    }
    ctx.restore();
  }
  function drawMarkers(chart) {
    // deploys and other deliberate changes: a vertical line with its name
    const { ctx, bbox } = chart;
    ctx.save();
    ctx.strokeStyle = ctx.fillStyle = colour("s2");
    ctx.lineWidth = 1.5 * devicePixelRatio;
    ctx.font = `${12 * devicePixelRatio}px system-ui, sans-serif`;
    ctx.textBaseline = "top";
    for (const marker of data.markers || []) {
      const x = chart.valToPos(marker.at, "x", true);
      if (x < bbox.left || x > bbox.left + bbox.width) continue;
      ctx.setLineDash([2 * devicePixelRatio, 3 * devicePixelRatio]);
      ctx.beginPath();
      ctx.moveTo(x, bbox.top);
      ctx.lineTo(x, bbox.top + bbox.height);
      ctx.stroke();
      ctx.textAlign = x > bbox.left + bbox.width * 0.8 ? "right" : "left";
      ctx.fillText(marker.name, x + (ctx.textAlign === "left" ? 5 : -5) * devicePixelRatio, bbox.top + 4 * devicePixelRatio);
    }
    ctx.restore();
  }
  function drawUnscored(chart) {
    const { ctx, bbox } = chart;
    const size = 3.5 * devicePixelRatio;
    ctx.save();
    ctx.strokeStyle = colour("unscored");
    ctx.lineWidth = 1.5 * devicePixelRatio;
    data.renditions.forEach((line, row) => {
      const y = bbox.top + bbox.height - (2 + 2.6 * row) * size;
      line.at.forEach((at, index) => {
        if (!line.reason[index]) return;
        const x = chart.valToPos(at, "x", true);
        if (x < bbox.left || x > bbox.left + bbox.width) return;
        ctx.beginPath();
        ctx.moveTo(x, y - size);
        ctx.lineTo(x + size, y);
        ctx.lineTo(x, y + size);
        ctx.lineTo(x - size, y);
        ctx.closePath();
        ctx.stroke();
      });
    });
    ctx.restore();
  }

  // ---- drawing
  function options() {
    const axis = { stroke: colour("soft"), grid: { stroke: colour("line"), width: 1 }, ticks: { show: false }, font: "12px system-ui, sans-serif" };
    return {
      width: box.clientWidth,
      height: 320,
      padding: [16, 22, 0, 0],
      tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), "Etc/UTC"),
      legend: { show: false },
      cursor: { y: false, points: { size: 8 }, drag: { x: false, y: false }, focus: { prox: 30 } },
      scales: { x: { time: true, range: () => [scale().min, scale().max] }, y: { range: [0, 100] } },
      axes: [
        { ...axis, size: 32, space: 96, values: (_, splits, __, ___, step) => splits.map((at) => (step < 60 ? clock(at) : step < 86400 ? clock(at).slice(0, 5) : new Date(at * 1000).toISOString().slice(5, 10))) },
        { ...axis, size: 38, splits: [0, 20, 40, 60, 80, 100] },
      ],
      series: [{}, ...data.renditions.map((line, index) => ({
        label: line.name,
        stroke: colour(`s${index % 6}`),
        width: 2,
        dash: DASHES[index % 6],
        points: { show: line.at.length < 150, size: 5, fill: colour(`s${index % 6}`) },
      }))],
      hooks: { drawClear: [drawBaseline, drawAlerts], draw: [drawUnscored, drawMarkers], setCursor: [showReadout] },
    };
  }
  function draw() {
    if (plot) plot.destroy();
    const table = columns();
    xs = table[0] || [];
    plot = new uPlot(options(), table, box);
    box.dataset.points = String(xs.length);
    box.setAttribute("aria-valuemax", String(Math.max(0, xs.length - 1)));
  }
  function redraw() {
    const table = columns();
    xs = table[0];
    plot.setData(table);
    box.dataset.points = String(xs.length);
    box.setAttribute("aria-valuemax", String(Math.max(0, xs.length - 1)));
  }

  // ---- the values of one moment, by pointer or arrow keys
  function showReadout(chart) {
    const index = chart.cursor.idx;
    if (index === null || index === undefined || xs[index] === undefined) return;
    const words = data.renditions.flatMap((line) => {
      const at = line.at.indexOf(xs[index]);
      if (at < 0) return [];
      const value = line.value[at] === null ? "no score" : line.value[at].toFixed(1);
      return [`${line.name} ${value}${line.reason[at] ? ` (${line.reason[at].replaceAll("_", " ")})` : ""}`];
    });
    readout.textContent = `${clock(xs[index])} UTC · ${words.join(" · ")}`;
    box.setAttribute("aria-valuenow", String(index));
    box.setAttribute("aria-valuetext", readout.textContent);
  }
  function moveCursor(index) {
    if (!xs.length) return;
    const at = Math.min(xs.length - 1, Math.max(0, index));
    plot.setCursor({ left: plot.valToPos(xs[at], "x"), top: 10 });
  }
  function openSegment() {
    const index = plot.cursor.idx;
    const focused = plot.series.findIndex((item, number) => number > 0 && plot.cursor.focus && item._focus);
    const lines = focused > 0 ? [data.renditions[focused - 1], ...data.renditions] : data.renditions;
    const line = lines.find((item) => item.at.includes(xs[index]));
    if (!line) return;
    const id = line.id[line.at.indexOf(xs[index])];
    if (id) return void location.assign(`${document.body.dataset.rootPath}/segments/${id}`);
    // One point of a long range stands for many segments: open the page of that time.
    const moment = (seconds) => new Date(seconds * 1000).toISOString();
    const query = { from: moment(xs[index]), to: moment(xs[index] + data.step_seconds), scorer: data.scorer };
    location.assign(`${location.pathname}?${new URLSearchParams(query)}`);
  }
  box.addEventListener("keydown", (event) => {
    if (!plot) return;
    const at = plot.cursor.idx ?? xs.length;
    const steps = { ArrowLeft: at - 1, ArrowRight: at + 1, PageUp: at - 10, PageDown: at + 10, Home: 0, End: xs.length - 1 };
    if (event.key in steps) moveCursor(steps[event.key]);
    else if (event.key === "Enter") openSegment();
    else return;
    event.preventDefault();
  });
  box.addEventListener("click", () => plot && plot.cursor.idx !== null && openSegment());

  // ---- live: append new points; load everything again when too many were missed or an alert changed
  document.addEventListener("vqmon:points", (event) => {
    if (!plot || !data.follows) return;
    for (const point of event.detail) {
      const line = data.renditions.find((item) => item.name === point.rendition);
      if (!line) return void load();
      if (point.stream_id !== data.stream_id || point.at <= (line.at[line.at.length - 1] ?? 0)) continue;
      line.at.push(point.at);
      line.value.push(point.scores[data.scorer] ?? null);
      line.id.push(point.id);
      line.reason.push(point.reason ?? point.scorer_failures?.[data.scorer] ?? null);
      if (line.at.length > MAX_POINTS) for (const list of [line.at, line.value, line.id, line.reason]) list.shift();
    }
    redraw();
  });
  document.addEventListener("vqmon:alerts", () => load());
  document.addEventListener("vqmon:behind", () => load());

  async function load() {
    const reply = await fetch(box.dataset.url, { headers: { Accept: "application/json" } });
    if (!reply.ok) return void (readout.textContent = "The chart data cannot be loaded at the moment.");
    data = await reply.json();
    draw();
  }
  box.setAttribute("role", "slider");
  box.setAttribute("aria-valuemin", "0");
  box.setAttribute("aria-valuenow", "0");
  box.setAttribute("aria-valuetext", "Arrow keys move along the points, Enter opens the segment");
  new ResizeObserver(() => plot && plot.setSize({ width: box.clientWidth, height: 320 })).observe(box);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => data && draw());
  load();
})();
