// A map of devices over time, a row each: one that differs is seen among many.

import { Chart } from "./charts.js";
import { make } from "./dom.js";
import { heat } from "./palette.js";

const ROW = 14; // CSS pixels of a device
const [LEAST, MOST] = [210, 420];
const NAMED = 16; // rows that have a name beside them; of more, each second, third, …
const [LETTER, MOST_LABEL] = [7, 160]; // CSS pixels of names

export class HeatMap extends Chart {
  // `labels` are the devices', in order; `format` writes a value of the map.
  constructor(place, { labels, format, ...rest }) {
    const scale = make("span", { class: "scale" });
    super(place, {
      ...rest,
      format,
      controls: scale,
      series: [{ label: "mean of all", stroke: "transparent" }],
      height: Math.max(LEAST, Math.min(MOST, labels.length * ROW + 60)),
      paint: (plot) => this.paint(plot),
      wide: labels.length > NAMED,
      yLimits: () => [-0.5, labels.length - 0.5],
      yTicks: {
        splits: () => labels.map((_, row) => row).filter((row) => row % Math.ceil(labels.length / NAMED) === 0),
        values: (_, rows) => rows.map((row) => labels[row]),
        size: Math.max(64, Math.min(MOST_LABEL, 18 + LETTER * Math.max(...labels.map((label) => label.length)))),
      },
    });
    this.labels = labels;
    this.rows = [];
    this.scaleBar = scale;
  }

  // `rows`: the values of each device at each of `times`, null where unknown; `means` are of all.
  showRows(times, rows, means, length_s, range, nothing) {
    this.rows = rows;
    this.length_s = length_s;
    const known = rows.flat().filter((value) => value !== null);
    this.low = known.reduce((a, b) => Math.min(a, b), Infinity);
    this.high = known.reduce((a, b) => Math.max(a, b), -Infinity);
    this.picture = known.length ? picture(rows, this.low, this.high) : null;
    this.scaleBar.hidden = !known.length;
    const ends = known.length ? [this.format(this.low), this.format(this.high)] : [];
    this.scaleBar.replaceChildren(...(ends[0] === ends[1] ? ends.slice(1) : [ends[0], make("i", { "aria-hidden": "true" }), ends[1]]));
    this.show([times, means], range, nothing);
  }

  // The mean is unknown where a device is: the others are seen all the same.
  knows() {
    return this.picture !== null;
  }

  paint(plot) {
    const times = plot.data[0];
    if (!this.picture || !times.length) return;
    const { ctx, bbox } = plot,
      half = this.length_s / 2;
    const left = plot.valToPos(times[0] - half, "x", true),
      right = plot.valToPos(times[times.length - 1] + half, "x", true);
    ctx.save();
    ctx.beginPath();
    ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
    ctx.clip();
    ctx.imageSmoothingEnabled = false;
    ctx.drawImage(this.picture, left, bbox.top, right - left, bbox.height);
    ctx.restore();
  }

  // The device under the cursor beside the time.
  showValues() {
    super.showValues();
    const { idx, top } = this.plot.cursor;
    if (!this.rows?.length || idx === null || idx === undefined || !this.room.matches(":hover")) return;
    const row = Math.round(this.plot.posToVal(top, "y"));
    if (this.rows[row]) this.readout.textContent += ` · ${this.labels[row]} ${this.format(this.rows[row][idx])}`;
  }

  describe(known) {
    super.describe(known);
    if (!known) return;
    const over = this.rows.map((row) => mean(row)).map((value, row) => ({ value, label: this.labels[row] }));
    const ranked = over.filter(({ value }) => value !== null).sort((a, b) => a.value - b.value);
    const said = ({ label, value }) => `${label} ${this.format(value)}`;
    const canvas = this.room.querySelector("canvas");
    const words = canvas.getAttribute("aria-label");
    canvas.setAttribute("aria-label", `${words}; lowest ${said(ranked[0])}, highest ${said(ranked[ranked.length - 1])}`);
  }
}

function picture(rows, low, high) {
  const [width, height] = [rows[0].length, rows.length];
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [width, height];
  const context = canvas.getContext("2d"),
    image = context.createImageData(width, height);
  rows.forEach((row, y) =>
    row.forEach((value, x) => {
      if (value === null) return; // transparent: not known
      const at = high > low ? (value - low) / (high - low) : 0.5;
      image.data.set([...heat(at), 255], 4 * (y * width + x));
    }),
  );
  context.putImageData(image, 0, 0);
  return canvas;
}

export function mean(values) {
  const known = values.filter((value) => value !== null);
  return known.length ? known.reduce((a, b) => a + b, 0) / known.length : null;
}
