// Charts that share one time cursor and one zoom.
// A series may have a `band`: two more columns, its lowest and highest, follow it in the data.

import uPlot from "./vendor/uPlot.esm.js";

export const COLOURS = ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00"];
const HEIGHT = 220;
const SECOND = 1, MINUTE = 60, HOUR = 3600, DAY = 86400;
const TICKS = [SECOND, 2, 5, 10, 15, 30, MINUTE, 2 * MINUTE, 5 * MINUTE, 10 * MINUTE, 15 * MINUTE, 30 * MINUTE, HOUR, 2 * HOUR, 3 * HOUR, 6 * HOUR, 12 * HOUR, DAY, 2 * DAY, 7 * DAY, 14 * DAY, 30 * DAY, 90 * DAY];
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

export class Chart {
  constructor(place, { series: wanted, format, onZoom, time = true, xLabel, xFormat, fromZero = true, sync = "time" }) {
    const room = place.appendChild(document.createElement("div")); // without the card's padding
    const series = [], bands = [];
    for (const one of wanted) {
      series.push(one);
      if (one.band) {
        bands.push({ series: [series.length + 2, series.length + 1], fill: one.stroke + "2e" });
        series.push(edge(one, "lowest"), edge(one, "highest"));
      }
    }
    this.marks = [];
    const ink = () => colour("--soft");
    const grid = { stroke: () => colour("--line"), width: 1 };
    this.plot = new uPlot({
      width: Math.max(200, room.clientWidth), height: HEIGHT,
      scales: { x: { time }, y: { range: (_, low, high) => limits(low, high, fromZero) } },
      cursor: { sync: time ? { key: sync } : undefined, drag: { x: true, y: false, setScale: false } },
      legend: { live: true },
      axes: [
        { stroke: ink, grid, ticks: grid, label: xLabel, labelSize: 20, space: 76, ...(time ? { incrs: TICKS } : {}), values: xFormat ? (_, ticks) => ticks.map(xFormat) : clock },
        { stroke: ink, grid, ticks: grid, size: 72, values: (_, ticks) => ticks.map(format) },
      ],
      series: [
        time ? {} : { label: xLabel, value: (_, value) => (value === null ? "–" : xFormat(value)) },
        ...series.map((one) => ({
          width: 1.2, spanGaps: false, points: { show: false }, ...one,
          stroke: one.stroke ?? (() => colour("--ink")),
          value: (_, value) => (value === null || value === undefined ? "–" : format(value)),
        })),
      ],
      bands,
      hooks: {
        draw: [(plot) => drawMarks(plot, this.marks)],
        setSelect: [(plot) => {
          const { left, width } = plot.select;
          if (width > 4) onZoom?.(plot.posToVal(left, "x"), plot.posToVal(left + width, "x"));
          plot.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
        }],
      },
    }, [[], ...series.map(() => [])], room);
    this.watcher = new ResizeObserver(() => this.plot.setSize({ width: Math.max(200, room.clientWidth), height: HEIGHT }));
    this.watcher.observe(room);
  }

  show(data, range) {
    this.plot.setData(data, false);
    const [low, high] = range ?? [data[0][0] ?? 0, data[0][data[0].length - 1] ?? 1];
    this.plot.setScale("x", { min: low, max: high > low ? high : low + 1 });
  }

  mark(marks) {
    this.marks = marks;
    this.plot.redraw(false, false);
  }

  redraw() { this.plot.redraw(false, true); }
  destroy() { this.watcher.disconnect(); this.plot.destroy(); }
}

const edge = (one, name) => ({ label: `${one.label} ${name}`, class: "edge", stroke: "transparent", width: 0 });

// A dashed line at each time, with a word where there is room for it.
function drawMarks(plot, marks) {
  const { ctx, bbox } = plot, ratio = devicePixelRatio;
  ctx.save();
  ctx.beginPath();
  ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
  ctx.clip();
  ctx.strokeStyle = ctx.fillStyle = colour("--soft");
  ctx.lineWidth = ratio;
  ctx.font = `${10 * ratio}px system-ui, sans-serif`;
  ctx.textBaseline = "top";
  ctx.textAlign = "left";
  let free = -Infinity;
  for (const { time, word } of marks) {
    const x = plot.valToPos(time, "x", true);
    if (x < bbox.left || x > bbox.left + bbox.width) continue;
    ctx.setLineDash([3 * ratio, 4 * ratio]);
    ctx.beginPath();
    ctx.moveTo(x, bbox.top);
    ctx.lineTo(x, bbox.top + bbox.height);
    ctx.stroke();
    if (x < free) continue;
    ctx.fillText(word, x + 3 * ratio, bbox.top + 2 * ratio);
    free = x + ctx.measureText(word).width + 10 * ratio;
  }
  ctx.restore();
}

// One line a tick, as fine as the ticks are: two lines run into each other on a narrow chart.
function clock(_plot, ticks, _axis, _space, step) {
  const fine = step >= DAY ? { month: "short", day: "numeric" }
    : step >= MINUTE ? { hour: "2-digit", minute: "2-digit", hourCycle: "h23" }
    : { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" };
  const written = new Intl.DateTimeFormat([], fine);
  return ticks.map((at) => written.format(at * 1000));
}

function limits(low, high, fromZero) {
  if (low === null || high === null || low === undefined) return [0, 1];
  if (fromZero) return [0, high > 0 ? high * 1.08 : 1];
  const margin = (high - low) * 0.06 || Math.abs(high) * 0.05 || 1;
  return [low - margin, high + margin];
}
