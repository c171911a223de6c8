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

export class Chart {
  constructor(place, { title, note = "", wide = false, series, format, height = 210, ...rest }) {
    this.format = format;
    this.title = title;
    this.series = series;
    this.height = height;
    this.marks = [];
    this.view = [0, 1]; // uPlot asks for the limits before it has taken a new scale over
    this.readout = make("span", { class: "readout" });
    this.note = make("span", { class: "quiet" }, note);
    this.room = make("div", { class: "plot", tabindex: "0", role: "group" });
    this.none = make("div", { class: "none" });
    this.chips = series.map((one, index) => this.chip(one, index));
    place.append(
      make(
        "section",
        { class: `card chart ${wide ? "wide" : ""}`, "aria-label": title },
        make("header", {}, make("h2", {}, title), this.note, this.readout),
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
    this.room.querySelector("canvas").setAttribute("role", "img");
    this.watcher = new ResizeObserver(() => this.plot.setSize({ width: this.width, height }));
    this.watcher.observe(this.room);
  }

  get width() {
    return Math.max(200, this.room.clientWidth);
  }

  draw({ timeline, time = true, xLabel, xFormat, xMoment, fromZero = true, clip = false, onToggle }) {
    this.onToggle = onToggle ?? ((index) => this.toggle(index));
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
        scales: { x: { time }, y: { range: (plot) => this.limits(plot, fromZero) } },
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
            grid,
            ticks: grid,
            space: 80,
            label: xLabel,
            labelSize: 22,
            labelFont: "13px system-ui, sans-serif",
            size: 34,
            ...(time ? { incrs: STEPS } : {}),
            values: xFormat ? (_, ticks) => ticks.map(axis(xFormat)) : clock,
          },
          { stroke: ink, grid, ticks: { show: false }, size: 64, values: (_, ticks) => ticks.map(axis(this.format)) },
        ],
        series: [{}, ...lines],
        bands,
        hooks: {
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
    if (timeline) listen(this.room, plot, timeline);
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

  toggle(index, shown = this.chips[index].button.getAttribute("aria-pressed") !== "true") {
    this.chips[index].button.setAttribute("aria-pressed", String(shown));
    const at = this.places[index],
      count = this.series[index].band ? 3 : 1;
    for (let one = at; one < at + count; one += 1) this.plot.setSeries(one, { show: shown });
  }

  show(data, range, nothing = "") {
    const known = data.slice(1).some((column) => column.some((value) => value !== null && value !== undefined));
    this.none.textContent = known ? "" : nothing;
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
      const value = idx === null || idx === undefined ? newest(column) : column[idx];
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
    const [min, max] = this.view,
      times = plot.data[0];
    const seen = (at) =>
      plot.series[at].show
        ? plot.data[at].filter(
            (value, index) => value !== null && value !== undefined && times[index] >= min && times[index] <= max,
          )
        : [];
    const values = plot.series.slice(1).flatMap((_, index) => seen(index + 1));
    if (!values.length) return [0, 1];
    let low = values.reduce((a, b) => Math.min(a, b)),
      high = values.reduce((a, b) => Math.max(a, b));
    if (this.clip) {
      const lines = this.places.flatMap(seen).sort((a, b) => a - b); // a band's edges are the extremes
      const usual = lines[Math.floor((lines.length - 1) * 0.9)];
      const sensible = Math.max(usual, 0) * 5;
      this.note.textContent = sensible && high > sensible ? `beyond the scale: up to ${this.format(high)}` : "";
      if (sensible) high = Math.min(high, sensible);
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
