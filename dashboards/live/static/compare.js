// Up to five runs: their losses over steps and over energy, and what each took.

import { ask } from "./api.js";
import { Chart, COLOURS } from "./charts.js";
import { make, table } from "./dom.js";
import { carbon, duration, energy, money, plain, si, unmeasured } from "./format.js";
import uPlot from "./vendor/uPlot.esm.js";

const J_PER_WH = 3600;

export async function showComparison(page, ids) {
  const runs = await Promise.all(ids.map(async (id) => {
    const [detail, series] = await Promise.all([ask(`runs/${id}`), ask(`runs/${id}/series?px=1000`)]);
    return { detail, series };
  }));
  const series = runs.map(({ detail }, index) => ({
    label: detail.name, stroke: COLOURS[index % COLOURS.length], spanGaps: true, dash: index ? [8 - index, index * 2] : undefined,
  }));
  const place = make("div", { class: "charts" });
  page.replaceChildren(make("h1", {}, "Comparison"), place, make("section", { class: "card below" }, table(
    [{ label: "run" }, { label: "duration", number: true }, { label: "energy", number: true }, { label: "CO₂e", number: true }, { label: "money", number: true }, { label: "last loss", number: true }],
    runs.map(({ detail }) => {
      const row = detail.rows.find((one) => one.method === "measured");
      return [make("a", { href: `#/run/${detail.id}` }, detail.name), duration(detail.duration_s), [energy(row.energy_kwh), ...unmeasured(detail.quality)].join(" "), carbon(row.tco2e), money(row.cost, row.currency), plain(detail.final_loss)];
    }))));
  const draw = (title, xLabel, xFormat, columns) => {
    const card = make("section", { class: "card wide", "aria-label": title }, make("h2", {}, title));
    place.append(card);
    const chart = new Chart(card, { time: false, fromZero: false, xLabel, xFormat, format: (value) => plain(value), series });
    chart.show(uPlot.join(columns));
    return chart;
  };
  const charts = [
    draw("Training loss (nats per token) over steps", "step", String, runs.map((run) => [run.series.steps.step, run.series.steps.loss])),
    draw("Training loss (nats per token) over energy of the devices", "energy", (value) => si(value, "Wh"), runs.map((run) => lossOverEnergy(run.series))),
  ];
  return {
    stop: () => charts.forEach((chart) => chart.destroy()),
    restyle: () => charts.forEach((chart) => chart.redraw()),
  };
}

// Energy in Wh of all devices until each step: straight lines between the ends of windows.
function lossOverEnergy({ time_ms, level_s, devices, steps }) {
  let spent = 0;
  const ends = time_ms.map((start) => start + level_s * 1000);
  const energies = time_ms.map((_, index) => (spent += devices.reduce((sum, device) => sum + (device.energy_j[index] ?? 0), 0)));
  let after = 0;
  const at = steps.time_ms.map((time) => {
    while (after < ends.length && ends[after] < time) after += 1;
    if (after === ends.length) return spent / J_PER_WH;
    const before = after ? energies[after - 1] : 0;
    const part = Math.max(0, (time - (ends[after] - level_s * 1000)) / (level_s * 1000));
    return (before + (energies[after] - before) * part) / J_PER_WH;
  });
  return [at, steps.loss];
}
