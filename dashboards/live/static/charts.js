// A chart in a card: its lines, a legend of the values under the cursor, and words for who cannot
// see it. A series may have a `band`: two more columns, its lowest and highest, follow in the data.

import { make, swatch } from "./dom.js";
import { axis } from "./format.js";
import { listen, shiftDrag } from "./gestures.js";
import { drawMarks, STRIP } from "./marks.js";
import { token } from "./palette.js";
import { clock, STEPS } from "./ticks.js";
import uPlot from "./vendor/uPlot.esm.js";

const KEYS = "Arrow keys move, plus and minus zoom, 0 shows all.";
const FADED = 0.25;
const HARDLY = 1.02; // times as high as what is shown

export class Chart {
  constructor(place, { title, note = "", wide = false, series, format, height = 210, controls, ...rest }) {
    this.rest = rest;
    this.format = format;
    this.title = title;
    this.series = series;
    this.height = height;
    this.marks = [];
    this.view = [0, 1]; // uPlot asks for the limits before it has taken a new scale over
    this.readout = make("span", { class: "readout" });
    this.said = note;
    this.latest = [];
    this.note = make("span", { class: "quiet" }, note);
    this.room = make("div", { class: "plot", tabindex: "0", role: "group" });
    this.none = make("div", { class: "none" });
    this.chips = series.map((one, index) => this.chip(one, index));
    place.append(
      make(
        "section",
        { class: `card chart ${wide ? "wide" : ""}`, "aria-label": title },
        make("header", {}, make("h2", {}, title), this.note, controls, this.readout),
        this.room,
        make(
          "div",
          {
            class: `legend ${series.length > 4 && !wide ? "many" : ""}`,
            role: "group",
            "aria-label": `Lines of ${title}`,
          },
          ...this.chips.map((chip) => chip.button),
        ),
      ),
    );
    this.plot = this.draw(rest);
    this.room.append(this.none);
    this.watcher = new ResizeObserver(() => this.plot.setSize({ width: this.width, height }));
    this.watcher.observe(this.room);
  }

  // With another kind of axis, which is fixed when a plot is made.
  change(rest) {
    this.rest = { ...this.rest, ...rest };
    const { data } = this.plot;
    this.plot.destroy();
    this.plot = this.draw(this.rest);
    if (data[0].length) this.show(data, this.view, this.nothing, this.latest);
    this.series.forEach((_, index) => this.isShown(index) || this.toggle(index, false));
  }

  get width() {
    return Math.max(200, this.room.clientWidth);
  }

  draw({
    timeline,
    time = true,
    xLabel,
    xFormat,
    xTicks,
    xMoment,
    fromZero = true,
    clip = false,
    log = false,
    onToggle,
    paint,
    yLimits,
    yTicks,
  }) {
    this.onToggle = onToggle ?? ((index) => this.toggle(index));
    this.log = log;
    this.xMoment = xMoment ?? xFormat;
    this.clip = clip;
    const lines = [],
      bands = [];
    this.places = this.series.map((one) => {
      const at = lines.push(line(one));
      if (one.band) {
        bands.push({ series: [at + 2, at + 1], fill: `${one.stroke}2e` });
        lines.push(edge(), edge());
      }
      return at;
    });
    const ink = () => token("--soft"),
      grid = { stroke: () => token("--line"), width: 1 };
    const plot = new uPlot(
      {
        width: this.width,
        height: this.height,
        padding: [STRIP, 28, 0, 0],
        scales: {
          x: { time },
          y: { distr: log ? 3 : 1, dir: paint ? -1 : 1, range: (plot) => yLimits?.() ?? this.limits(plot, fromZero && !log) },
        },
        cursor: {
          sync: time ? { key: "time" } : undefined,
          drag: { x: Boolean(timeline), y: false, setScale: false },
          bind: timeline
            ? { mousedown: shiftDrag(timeline), dblclick: () => () => timeline.whole() }
            : { dblclick: () => () => null },
          points: { size: 7 },
        },
        focus: { alpha: FADED },
        legend: { show: false },
        axes: [
          {
            stroke: ink,
            grid: paint ? { show: false } : grid,
            ticks: grid,
            space: 80,
            label: xLabel,
            labelSize: 22,
            labelFont: "13px system-ui, sans-serif",
            size: 34,
            ...(time ? { incrs: STEPS } : {}),
            values: xFormat ? (_, ticks) => ticks.map(axis(xFormat)) : clock,
            ...xTicks,
          },
          {
            stroke: ink,
            grid: paint ? { show: false } : grid,
            ticks: { show: false },
            size: 64,
            values: (_, ticks) => ticks.map((at) => (at === null ? "" : axis(this.format)(at))),
            ...yTicks,
          },
        ],
        series: [{}, ...lines],
        bands,
        hooks: {
          drawClear: paint ? [paint] : [],
          draw: [(plot) => drawMarks(plot, this.marks)],
          setCursor: [() => this.showValues()],
          setSelect: [
            (plot) => {
              const { left, width } = plot.select;
              if (width > 4) timeline?.set(plot.posToVal(left, "x"), plot.posToVal(left + width, "x"));
              plot.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
            },
          ],
        },
      },
      [[], ...lines.map(() => [])],
      this.room,
    );
    if (timeline && !this.listening) listen(this.room, () => this.plot, timeline);
    this.listening = true;
    plot.root.querySelector("canvas").setAttribute("role", "img");
    return plot;
  }

  chip(one, index) {
    const value = make("b", {}, "–");
    const highlight = (on) => this.plot.setSeries(on ? this.places[index] : null, { focus: on });
    const button = make(
      "button",
      {
        type: "button",
        class: "chip",
        "aria-pressed": "true",
        title: `${one.label}: show or hide`,
        onclick: () => this.onToggle(index),
        onmouseenter: () => highlight(true),
        onmouseleave: () => highlight(false),
      },
      swatch(one),
      make("span", {}, one.label),
      value,
    );
    return { button, value };
  }

  rename(index, label) {
    this.series[index].label = label;
    const { button } = this.chips[index];
    button.querySelector("span").textContent = label;
    button.title = `${label}: show or hide`;
  }

  isShown(index) {
    return this.chips[index].button.getAttribute("aria-pressed") === "true";
  }

  toggle(index, shown = !this.isShown(index)) {
    this.chips[index].button.setAttribute("aria-pressed", String(shown));
    const at = this.places[index],
      count = this.series[index].band ? 3 : 1;
    for (let one = at; one < at + count; one += 1) this.plot.setSeries(one, { show: shown });
  }

  // Whether there is anything to see of what is shown.
  knows(data) {
    return data.slice(1).some((column) => column.some((value) => value !== null && value !== undefined));
  }

  // `latest`: what a legend says of each line while no cursor is on it, where that is not its newest.
  show(data, range, nothing = "", latest = []) {
    this.nothing = nothing;
    this.latest = latest;
    const known = this.knows(data);
    this.none.textContent = known ? "" : nothing;
    this.room.classList.toggle("nothing", !known);
    this.plot.setData(data, false);
    this.scale(range ?? [data[0][0] ?? 0, data[0][data[0].length - 1] ?? 1]);
    this.showValues();
    this.describe(known);
  }

  scale([low, high]) {
    this.view = [low, high > low ? high : low + 1];
    this.plot.setScale("x", { min: this.view[0], max: this.view[1] });
  }

  // Values under the cursor; without one, the newest.
  showValues() {
    const { idx } = this.plot.cursor,
      times = this.plot.data[0] ?? [];
    this.readout.textContent =
      idx === null || idx === undefined || !this.xMoment || times[idx] === undefined
        ? "newest"
        : this.xMoment(times[idx]);
    this.chips.forEach((chip, index) => {
      const column = this.plot.data[this.places[index]] ?? [];
      const value = idx === null || idx === undefined ? (this.latest[index] ?? newest(column)) : column[idx];
      chip.value.textContent = this.format(value);
    });
  }

  describe(known) {
    const entries = this.series.slice(0, 8).map((one, index) => {
      const values = (this.plot.data[this.places[index]] ?? []).filter(
        (value) => value !== null && value !== undefined,
      );
      if (!values.length) return `${one.label} unknown`;
      const low = values.reduce((a, b) => Math.min(a, b)),
        high = values.reduce((a, b) => Math.max(a, b));
      const [newest, lowest, highest] = [values[values.length - 1], low, high].map(this.format);
      return `${one.label} ${newest}, between ${lowest} and ${highest}`;
    });
    const words = known ? entries.join("; ") : this.none.textContent;
    this.room.querySelector("canvas").setAttribute("aria-label", `${this.title}: ${words}`);
    this.room.setAttribute("aria-label", `${this.title}. ${KEYS}`);
  }

  // Of what is in view; with `clip` a few values beyond all sense do not flatten the others.
  limits(plot, fromZero) {
    const [first, last] = inView(plot.data[0], this.view);
    const seen = (at) =>
      plot.series[at].show
        ? plot.data[at].slice(first, last + 1).filter((value) => value !== null && value !== undefined)
        : [];
    const values = plot.series.slice(1).flatMap((_, index) => seen(index + 1));
    if (!values.length) return this.log ? [0.1, 1] : [0, 1]; // zero has no logarithm
    let low = values.reduce((a, b) => Math.min(a, b)),
      high = values.reduce((a, b) => Math.max(a, b));
    if (this.clip) {
      const most = usualHigh(this.places.flatMap(seen)); // a band's edges are the extremes
      this.note.textContent = high > most * HARDLY ? `beyond the scale: up to ${this.format(high)}` : "";
      if (high > most * HARDLY) high = most;
    } else this.note.textContent = this.said;
    if (this.log) {
      const least = values.filter((value) => value > 0).reduce((a, b) => Math.min(a, b), high);
      return high > 0 ? [twoDigitsBelow(least), high * 1.05] : [0.1, 1];
    }
    if (fromZero) return [0, high > 0 ? high * 1.08 : 1];
    const margin = (high - low) * 0.06 || Math.abs(high) * 0.05 || 1;
    return [low - margin, high + margin];
  }

  mark(marks) {
    this.marks = marks;
    this.plot.redraw(false, false);
  }

  destroy() {
    this.watcher.disconnect();
    this.plot.destroy();
  }
}

// The largest of all but a few values that dwarf the others, as in the figures: a loss that exploded,
// or the first steps of a training, which fall from far above.
export function usualHigh(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const at = (share) => sorted[Math.floor((sorted.length - 1) * share)];
  if (sorted.length < 5) return at(1);
  const [low, quarter, most] = [at(0), at(0.25), at(0.75)];
  const limit = most + 20 * Math.max(most - quarter, 0.05 * Math.abs(most));
  const usual = sorted.filter((value) => value <= limit);
  const high = usual[usual.length - 1];
  if (usual.length < 100) return high;
  const ofMost = usual[Math.floor((usual.length - 1) * 0.99)];
  return high - low > 2 * (ofMost - low) ? ofMost : high;
}

// The first and last place of what is drawn between two times: lines go to the points just outside.
function inView(times, [min, max]) {
  let [first, last] = [0, times.length - 1];
  while (first < last && times[first + 1] <= min) first += 1;
  while (last > first && times[last - 1] >= max) last -= 1;
  return [first, last];
}

// A short number for the foot of a logarithmic axis.
function twoDigitsBelow(value) {
  const step = 10 ** (Math.floor(Math.log10(value)) - 1);
  return Math.max(Math.floor(value / step - 0.3), 1) * step;
}

const line = (one) => ({
  width: 1.5,
  spanGaps: false,
  points: { show: false },
  ...one,
  dash: one.dash?.length ? one.dash : undefined,
});
const edge = () => ({ stroke: "transparent", width: 0, points: { show: false } });

function newest(column) {
  for (let at = column.length - 1; at >= 0; at -= 1)
    if (column[at] !== null && column[at] !== undefined) return column[at];
  return null;
}
