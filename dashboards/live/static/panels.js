// The charts of a run, on one time cursor and one timeline.

import { Chart } from "./charts.js";
import { carbon, moment, plain, si } from "./format.js";
import { look } from "./palette.js";
import uPlot from "./vendor/uPlot.esm.js";
import { EventKind } from "./vocabulary.js";

const MAX_BANDS = 4; // more of them hide each other
const percent = (value) => (value === null || value === undefined ? "–" : `${plain(value, 3)} %`);
const celsius = (value) => (value === null || value === undefined ? "–" : `${plain(value, 3)} °C`);

export class Panels {
  constructor(place, shown, timeline) {
    this.kinds = kindsOf(shown);
    this.hidden = new Set();
    const chart = (options) => new Chart(place, { timeline, xMoment: moment, ...options });
    const each = shown.devices.map((device, index) => ({
      label: nameOf(device, index, shown.devices),
      ...look(index),
    }));
    this.several = each.length > 1;
    this.banded = each.length <= MAX_BANDS;
    this.lossBand = Boolean(shown.steps.loss_min);
    const devices = (options) => chart({ series: each, onToggle: (index) => this.toggle(index), ...options });
    const watts = (value) => si(value, "W");
    this.total = this.several
      ? chart({ title: "Power of all devices", series: [{ label: "total", ...look(0), width: 2 }], format: watts })
      : null;
    this.loss = chart({
      title: "Loss",
      series: [
        { label: "training", ...look(0), band: this.lossBand },
        {
          label: "held out",
          ...look(1),
          width: 0,
          points: { show: true, size: 7, fill: look(1).stroke },
        },
      ],
      format: (value) => plain(value),
      fromZero: false,
      clip: true,
    });
    const banded = this.banded ? "mean, with lowest and highest" : "mean";
    this.power = devices({
      title: this.several ? "Power by device" : "Power",
      note: banded,
      series: each.map((one) => ({ ...one, band: this.banded })),
      format: watts,
      fromZero: !this.several, // so that devices that are nearly alike are apart
    });
    this.carbon = chart({
      title: "CO₂e since the start",
      series: [{ label: "CO₂e", ...look(2), width: 2 }],
      format: (value) => carbon(value),
    });
    this.util = devices({ title: "Utilisation", format: percent });
    this.heat = devices({ title: "Temperature", format: celsius, fromZero: false });
    this.ofDevices = [this.power, this.util, this.heat];
  }

  get charts() {
    return [this.total, this.loss, this.power, this.carbon, this.util, this.heat].filter(Boolean);
  }

  // A device is shown or hidden on all charts at once.
  toggle(index) {
    const shown = this.hidden.delete(index);
    if (!shown) this.hidden.add(index);
    this.ofDevices.forEach((chart) => chart.toggle(index, shown));
  }

  show(shown, run, range) {
    const middles = shown.time_ms.map((ms) => ms / 1000 + shown.level_s / 2);
    const column = (name) => shown.devices.map((device) => device[name]);
    const powers = column("power_w");
    const nothing = "No power was recorded.";
    this.total?.show([middles, total(powers)], range, nothing);
    const lines = shown.devices.flatMap((device) =>
      this.banded ? [device.power_w, device.power_min_w, device.power_max_w] : [device.power_w],
    );
    this.power.show([middles, ...lines], range, nothing);
    this.showLoss(shown.steps, run, range);
    this.carbon.show([shown.spent.time_ms.map((ms) => ms / 1000), shown.spent.tco2e], range, "No energy was recorded.");
    this.util.show([middles, ...column("util_pct")], range, "Not recorded.");
    this.heat.show([middles, ...column("temperature_max_c")], range, "Not recorded.");
    const marks = run.events
      .filter((event) => event.kind !== EventKind.PHASE)
      .map((event) => ({ time: event.time_ms / 1000, word: event.kind }));
    (this.total ?? this.power).mark(marks);
    this.loss.mark(marks);
  }

  showLoss(steps, run, range) {
    const evals = run.events.filter((event) => Number.isFinite(event.data.loss));
    const band = this.lossBand ? [steps.loss_min, steps.loss_max] : [];
    this.loss.show(
      uPlot.join([
        [steps.time_ms.map((ms) => ms / 1000), steps.loss, ...band],
        [evals.map((event) => event.time_ms / 1000), evals.map((event) => event.data.loss)],
      ]),
      range,
      "No loss was logged.",
    );
  }

  scale(range) {
    this.charts.forEach((chart) => chart.scale(range));
  }
  destroy() {
    this.charts.forEach((chart) => chart.destroy());
  }
}

// Charts are made again when these change.
export const kindsOf = (shown) => [...shown.devices.map((device) => device.uuid), Boolean(shown.steps.loss_min)].join();

// gpu 0, gpu 1, cpu 0: the number that the table of devices shows too.
export function nameOf(device, index, devices) {
  return `${device.kind} ${devices.slice(0, index).filter((other) => other.kind === device.kind).length}`;
}

// Only where every device is known.
function total(columns) {
  if (!columns.length) return [];
  return columns[0].map((_, at) => {
    let sum = 0;
    for (const column of columns) {
      if (column[at] === null) return null;
      sum += column[at];
    }
    return sum;
  });
}
