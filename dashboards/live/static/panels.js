// The charts of a run, on one time cursor and one timeline.

import { Chart } from "./charts.js";
import { carbon, moment, plain, si } from "./format.js";
import { HeatMap, mean } from "./heatmap.js";
import { lossControls, smoothed } from "./loss.js";
import { look } from "./palette.js";
import { settings } from "./settings.js";
import uPlot from "./vendor/uPlot.esm.js";
import { EventKind } from "./vocabulary.js";

const FEW = 4; // devices whose lines and bands can be told apart
export const MOST_LINES = 16; // of more there are none
const percent = (value) => (value === null || value === undefined ? "–" : `${plain(value, 3)} %`);
const celsius = (value) => (value === null || value === undefined ? "–" : `${plain(value, 4)} °C`);
const watts = (value) => si(value, "W");
const UNMARKED = new Set([EventKind.PHASE, EventKind.EVAL]); // an evaluation is a point of the loss
const NO_POWER = "No power was recorded.";
const NEVER_ALL = "At no time is the power of all devices known.";

// Whether a reader may choose between a line for each device and their summary.
export const hasChoice = (count) => count > FEW && count <= MOST_LINES;
const summarised = (count) => count > MOST_LINES || (hasChoice(count) && settings.devices === "summary");

export class Panels {
  constructor(place, shown, timeline) {
    this.kinds = kindsOf(shown);
    this.hidden = new Set();
    const { devices } = shown;
    const chart = (options) => new Chart(place, { timeline, xMoment: moment, ...options });
    this.summary = summarised(devices.length);
    this.labels = devices.map((device) => device.label);
    this.each = devices.map((device, index) => ({ label: device.label, ...look(index) }));
    this.banded = devices.length <= FEW;
    this.lossBand = Boolean(shown.steps.loss_min);
    this.total =
      devices.length > 1
        ? chart({ title: "Power of all devices", series: [{ label: "total", ...look(0), width: 2 }], format: watts })
        : null;
    this.loss = chart({
      title: "Loss",
      series: [
        { label: "training", ...look(0), band: this.lossBand },
        { label: "before smoothing", ...look(0), stroke: `${look(0).stroke}55`, width: 1 },
        { label: "held out", ...look(1), width: 0, points: { show: true, size: 7, fill: look(1).stroke } },
      ],
      controls: lossControls(() => this.restyleLoss()),
      format: (value) => plain(value),
      fromZero: false,
      clip: settings.clip,
      log: settings.log,
    });
    this.power = this.summary
      ? new HeatMap(place, { timeline, xMoment: moment, title: "Power by device", labels: this.labels, format: watts })
      : this.lines(chart, {
          title: devices.length > 1 ? "Power by device" : "Power",
          note: this.banded ? "mean, with lowest and highest" : "mean",
          band: this.banded,
          format: watts,
          fromZero: devices.length < 2, // so that devices that are nearly alike are apart
        });
    this.carbon = chart({
      title: "CO₂e since the start",
      series: [{ label: "CO₂e", ...look(2), width: 2 }],
      format: (value) => carbon(value),
    });
    const of = (options) => (this.summary ? this.range(chart, options) : this.lines(chart, options));
    this.util = of({ title: "Utilisation", format: percent });
    this.heat = of({ title: "Temperature", format: celsius, fromZero: false });
    this.ofDevices = this.summary ? [] : [this.power, this.util, this.heat];
  }

  get charts() {
    return [this.total, this.loss, this.power, this.carbon, this.util, this.heat].filter(Boolean);
  }

  lines(chart, { band = false, ...options }) {
    const series = this.each.map((one) => ({ ...one, band }));
    return chart({ series, onToggle: (index) => this.toggle(index), ...options });
  }

  // Mean and range of the devices, and the one that is furthest from the mean.
  range(chart, options) {
    const series = [
      { label: "mean of all, and range", ...look(0), width: 2, band: true },
      { label: "furthest", ...look(1), dash: [6, 4] },
    ];
    return chart({ series, ...options });
  }

  // A device is shown or hidden on all charts at once.
  toggle(index) {
    const shown = this.hidden.delete(index);
    if (!shown) this.hidden.add(index);
    this.ofDevices.forEach((chart) => chart.toggle(index, shown));
  }

  show(shown, run, range) {
    this.last = [shown, run, range];
    const middles = shown.time_ms.map((ms) => ms / 1000 + shown.level_s / 2);
    const column = (name) => shown.devices.map((device) => device[name]);
    const powers = column("power_w");
    const some = powers.some((row) => row.some((value) => value !== null));
    this.total?.show([middles, shown.total.power_w], range, some ? NEVER_ALL : NO_POWER);
    if (this.summary) this.power.showRows(middles, powers, shown.mean.power_w, shown.level_s, range, NO_POWER);
    else this.power.show([middles, ...this.withBands(shown.devices)], range, NO_POWER);
    this.showLoss(shown.steps, run, range);
    this.carbon.show([shown.spent.time_ms.map((ms) => ms / 1000), shown.spent.tco2e], range, "No energy was recorded.");
    for (const [chart, name] of [
      [this.util, "util_pct"],
      [this.heat, "temperature_max_c"],
    ]) {
      if (this.summary) this.showRange(chart, middles, column(name), shown.mean[name], range);
      else chart.show([middles, ...column(name)], range, "Not recorded.");
    }
    const marks = run.events
      .filter((event) => !UNMARKED.has(event.kind))
      .map((event) => ({ time: event.time_ms / 1000, word: event.kind }));
    (this.total ?? this.power).mark(marks);
    this.loss.mark(marks);
  }

  withBands(devices) {
    return devices.flatMap((device) =>
      this.banded ? [device.power_w, device.power_min_w, device.power_max_w] : [device.power_w],
    );
  }

  showRange(chart, times, rows, middle, range) {
    const extreme = (pick) =>
      times.map((_, at) => {
        const known = rows.map((row) => row[at]).filter((value) => value !== null);
        return known.length ? known.reduce((a, b) => pick(a, b)) : null;
      });
    const away = rows.map((row) => mean(row.map((value, at) => (value === null || middle[at] === null ? null : Math.abs(value - middle[at])))));
    const furthest = away.reduce((best, value, row) => (value !== null && value > (away[best] ?? -1) ? row : best), 0);
    const differs = away[furthest] > 0,
      outlier = differs ? rows[furthest] : times.map(() => null);
    const columns = [middle, extreme(Math.min), extreme(Math.max), outlier];
    chart.rename(1, `${this.labels[furthest]}, differs most`);
    chart.chips[1].button.hidden = !differs;
    chart.show([times, ...columns], range, "Not recorded.");
  }

  showLoss(steps, run, range) {
    const evals = run.events.filter((event) => Number.isFinite(event.data.loss));
    const weight = settings.smooth,
      band = this.lossBand ? (weight ? [[], []] : [steps.loss_min, steps.loss_max]) : [];
    const times = steps.time_ms.map((ms) => ms / 1000),
      nothing = times.map(() => null);
    const columns = [smoothed(steps.loss, weight), ...band.map((edge) => (edge.length ? edge : nothing)), weight ? steps.loss : nothing];
    this.loss.chips[1].button.hidden = !weight;
    this.loss.chips[2].button.hidden = !evals.length;
    this.loss.show(
      uPlot.join([
        [times, ...columns],
        [evals.map((event) => event.time_ms / 1000), evals.map((event) => event.data.loss)],
      ]),
      range,
      "No loss was logged.",
      weight ? [] : [run.final_loss],
    );
  }

  restyleLoss() {
    this.loss.change({ log: settings.log, clip: settings.clip });
    if (this.last) this.showLoss(this.last[0].steps, this.last[1], this.loss.view);
  }

  scale(range) {
    if (this.last) this.last[2] = range;
    this.charts.forEach((chart) => chart.scale(range));
  }
  destroy() {
    this.charts.forEach((chart) => chart.destroy());
  }
}

// Charts are made again when these change.
export const kindsOf = (shown) =>
  [...shown.devices.map((device) => device.uuid), summarised(shown.devices.length), Boolean(shown.steps.loss_min)].join();
