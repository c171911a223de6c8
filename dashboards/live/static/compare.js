// Up to five runs: their losses over steps, and what each took.

import { ask } from "./api.js";
import { Chart, COLOURS } from "./charts.js";
import { make, table } from "./dom.js";
import { carbon, duration, energy, money, plain, unmeasured } from "./format.js";
import uPlot from "./vendor/uPlot.esm.js";

export async function showComparison(page, ids) {
  const runs = await Promise.all(ids.map(async (id) => ({ detail: await ask(`runs/${id}`), series: await ask(`runs/${id}/series?px=1000`) })));
  const card = make("section", { class: "card", "aria-label": "Training loss" }, make("h2", {}, "Training loss (nats per token) over steps"));
  page.replaceChildren(make("h1", {}, "Comparison"), card, make("section", { class: "card" }, table(
    [{ label: "run" }, { label: "duration", number: true }, { label: "energy", number: true }, { label: "CO₂e", number: true }, { label: "money", number: true }, { label: "last loss", number: true }],
    runs.map(({ detail }) => {
      const row = detail.rows.find((one) => one.method === "measured");
      return [make("a", { href: `#/run/${detail.id}` }, detail.name), duration(detail.duration_s), [energy(row.energy_kwh), ...unmeasured(detail.quality)].join(" "), carbon(row.tco2e), money(row.cost, row.currency), plain(detail.final_loss)];
    }))));
  const chart = new Chart(card, {
    time: false, fromZero: false, xLabel: "step", format: (value) => plain(value),
    series: runs.map(({ detail }, index) => ({ label: detail.name, stroke: COLOURS[index % COLOURS.length], spanGaps: true, dash: index ? [8 - index, index * 2] : undefined })),
  });
  chart.show(uPlot.join(runs.map(({ series }) => [series.steps.step, series.steps.loss])));
  return { stop: () => chart.destroy(), restyle: () => chart.redraw() };
}
