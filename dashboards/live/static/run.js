// One run: tiles, charts, devices, nodes, events and its row of the table.

import { ask, askText, follow, link } from "./api.js";
import { Chart, COLOURS } from "./charts.js";
import { make, table } from "./dom.js";
import { carbon, clock, duration, energy, grams, money, plain, share, si, unmeasured } from "./format.js";
import uPlot from "./vendor/uPlot.esm.js";

const MAX_EVENTS = 50;
const MAX_BANDS = 4; // more of them hide each other
const J_PER_KWH = 3.6e6;
const FORMATS = { Markdown: "markdown", LaTeX: "latex", CSV: "csv" };

export function showRun(page, id) {
  const head = make("div", {}), tiles = make("dl", { class: "tiles", "aria-label": "Totals" }), limits = make("div", { class: "limits" });
  const charts = make("div", { class: "charts" }), below = make("div", { class: "below" });
  const all = make("button", { type: "button", disabled: "", onclick: () => zoom(null) }, "Whole run");
  const near = make("button", { type: "button", onclick: () => zoomBy(0.5) }, "Zoom in");
  const trouble = make("p", { role: "alert" });
  page.replaceChildren(head, trouble, tiles, limits, make("div", { class: "bar" }, near, all, make("span", { class: "quiet" }, "or drag over a chart")), charts, below);
  let run = null, view = null, shown = null, drawn = null, method = "measured", stopped = false, fetching = false, again = false;

  const zoom = (range) => { view = range; all.disabled = !range; load(); };
  const zoomBy = (factor) => {
    if (!shown?.time_ms.length) return;
    const times = shown.time_ms, low = view?.[0] ?? times[0] / 1000, high = view?.[1] ?? times[times.length - 1] / 1000;
    const middle = (low + high) / 2, half = ((high - low) / 2) * factor;
    zoom([middle - half, middle + half]);
  };
  const load = async () => {
    if (fetching) { again = true; return; }
    fetching = true;
    try {
      const range = view ? `from=${Math.floor(view[0] * 1000)}&to=${Math.ceil(view[1] * 1000)}&` : "";
      shown = await ask(`runs/${id}/series?${range}px=${Math.round(Math.min(2000, Math.max(300, charts.clientWidth)))}`);
      if (!stopped) draw();
      trouble.textContent = "";
    } catch (error) {
      if (!stopped) trouble.textContent = error.message;
    }
    fetching = false;
    if (again) { again = false; load(); }
  };
  const draw = () => {
    if (!drawn || drawn.count !== shown.devices.length) {
      drawn?.destroy();
      charts.replaceChildren();
      drawn = new Panels(charts, shown, (low, high) => zoom([low, high]));
    }
    drawn.show(shown, run, view);
    fillTiles(tiles, run, shown, view);
  };
  const onRun = (newest) => {
    run = newest;
    document.title = `${run.name} · carbontrack`;
    head.replaceChildren(
      make("h1", {}, run.name, " ", ...unmeasured(run.quality).map((word) => make("span", { class: "badge" }, word))),
      make("p", { class: "quiet" }, make("span", { class: `status ${run.status}` }, run.status),
        ` · ${run.devices.length} × ${run.devices[0]?.name ?? "no device"} · ${run.meter ?? "no meter"} · started ${clock(run.started)}`,
        make("code", { class: "command", title: run.command.join(" ") }, run.command.join(" "))));
    fillTiles(tiles, run, shown, view);
    limits.replaceChildren(...run.budgets.map(budgetBar));
    fillBelow(below, run, method, (chosen) => { method = chosen; onRun(run); });
    load();
  };
  const stop = follow(id, onRun, (message) => { trouble.textContent = message; });
  ask(`runs/${id}`).catch((error) => { if (!run) page.replaceChildren(make("p", { class: "trouble" }, error.message), make("a", { href: "#/" }, "All runs")); });
  return {
    stop: () => { stopped = true; stop(); drawn?.destroy(); link(""); },
    restyle: () => {
      drawn?.destroy();
      drawn = null;
      if (shown) draw();
    },
  };
}

class Panels {
  constructor(place, shown, onZoom) {
    this.count = shown.devices.length;
    const chart = (title, options) => {
      const card = make("section", { class: "card", "aria-label": title }, make("h2", {}, title));
      place.append(card);
      return new Chart(card, { onZoom, ...options });
    };
    const each = shown.devices.map((device, index) => ({ label: `${device.kind} ${index}`, stroke: COLOURS[index % COLOURS.length], width: 1 }));
    const several = this.count > 1;
    this.banded = this.count <= MAX_BANDS;
    const power = each.map((one) => ({ ...one, band: this.banded }));
    this.power = chart(this.banded ? "Power, mean with lowest and highest" : "Power", { series: [...power, ...(several ? [{ label: "total", width: 2 }] : [])], format: (v) => si(v, "W") });
    this.loss = chart("Loss (nats per token)", {
      series: [{ label: "training", stroke: COLOURS[0] }, { label: "held out", stroke: COLOURS[5], width: 0, points: { show: true, size: 7, fill: COLOURS[5] } }],
      format: (v) => plain(v), fromZero: false,
    });
    this.carbon = chart("CO₂e of the shown time", { series: [{ label: "CO₂e", stroke: COLOURS[2], width: 2 }], format: grams });
    this.util = chart("Utilisation (%)", { series: each, format: (v) => plain(v, 3) });
    this.heat = chart("Temperature (°C)", { series: each, format: (v) => plain(v, 3), fromZero: false });
  }

  get charts() { return [this.power, this.loss, this.carbon, this.util, this.heat]; }

  show(shown, run, view) {
    const times = shown.time_ms.map((ms) => ms / 1000);
    const column = (name) => shown.devices.map((device) => device[name]);
    const powers = column("power_w"), total = sums(powers, true);
    const range = view ?? (times.length ? [times[0], times[times.length - 1] + shown.level_s] : null);
    const lines = shown.devices.flatMap((device) => (this.banded ? [device.power_w, device.power_min_w, device.power_max_w] : [device.power_w]));
    this.power.show([times, ...lines, ...(powers.length > 1 ? [total] : [])], range);
    const evals = run?.events.filter((event) => Number.isFinite(event.data.loss)) ?? [];
    this.loss.show(uPlot.join([
      [shown.steps.time_ms.map((ms) => ms / 1000), shown.steps.loss],
      [evals.map((event) => event.time_ms / 1000), evals.map((event) => event.data.loss)],
    ]), range);
    let spent = 0;
    const perJoule = gramsPerJoule(run);
    this.carbon.show([times, sums(column("energy_j"), false).map((j) => (j === null || perJoule === null ? null : (spent += j * perJoule)))], range);
    this.util.show([times, ...column("util_pct")], range);
    this.heat.show([times, ...column("temperature_max_c")], range);
    const marks = run?.events.filter((event) => event.kind !== "phase").map((event) => ({ time: event.time_ms / 1000, word: event.kind })) ?? [];
    this.power.mark(marks);
    this.loss.mark(marks);
  }

  destroy() { this.charts.forEach((chart) => chart.destroy()); }
}

// Sums at each time; a total needs all of its parts, an amount what is known of it.
function sums(columns, needAll) {
  if (!columns.length) return [];
  return columns[0].map((_, index) => {
    const known = columns.map((column) => column[index]).filter((value) => value !== null);
    return known.length === 0 || (needAll && known.length < columns.length) ? null : known.reduce((a, b) => a + b, 0);
  });
}

function gramsPerJoule(run) {
  const row = run?.rows.find((one) => one.method === "measured");
  return row?.tco2e && row.energy_kwh ? (row.tco2e * 1e6) / (row.energy_kwh * J_PER_KWH) : null;
}

function fillTiles(place, run, shown, view) {
  if (!run) return;
  const row = run.rows.find((one) => one.method === "measured");
  const total = shown && !view && run.status === "running" ? sums(shown.devices.map((device) => device.power_w), true) : [];
  const now = total.filter((value) => value !== null).pop() ?? null;
  const perToken = run.tokens && run.energy_kwh !== null ? (run.energy_kwh * J_PER_KWH) / run.tokens : null;
  const words = unmeasured(run.quality).join(", ");
  const assumed = (name) => [words, row?.assumed.includes(name) ? "factor assumed" : ""].filter(Boolean).join(", ");
  const all = [
    ["power now", si(now, "W"), run.status === "running" ? words : "ended"], ["energy of the devices", energy(run.energy_kwh), words],
    ["CO₂e", carbon(row?.tco2e ?? null), assumed("intensity")], ["money", money(row?.cost ?? null, row?.currency), assumed("tariff")],
    ["energy of a token", si(perToken, "J"), words], ["last loss", plain(run.final_loss), `${run.steps} steps`],
    ["duration", duration(run.duration_s), ""], ["coverage", share(run.coverage), ""],
    ...planned(run),
  ];
  place.replaceChildren(...all.map(([name, value, note]) => make("div", { class: "tile", "data-tile": name }, make("dt", {}, name), make("dd", {}, value), make("small", {}, note))));
}

// What is left, and the totals at the planned tokens with their range.
function planned(run) {
  const plan = run.status === "running" ? run.plan : null;
  if (!plan) return [];
  const at = `projected at ${si(plan.tokens, "")} tokens`;
  const range = (values, format) => (values[1] === null ? "" : `${format(values[0])} to ${format(values[2])}`);
  return [
    ["time left", duration(plan.eta_s), at],
    ["energy at the end", energy(plan.energy_kwh[1]), range(plan.energy_kwh, energy)],
    ["CO₂e at the end", carbon(plan.tco2e[1]), range(plan.tco2e, carbon)],
    ["money at the end", money(plan.cost[1], plan.currency), range(plan.cost, (value) => money(value, plan.currency))],
  ];
}

function budgetBar({ unit, limit, spent }) {
  const text = `${plain(spent, 3)} of ${plain(limit)} ${unit}`;
  return make("label", { class: "budget" }, make("span", {}, `Budget: ${text}`),
    make("meter", { min: 0, max: limit, value: Math.min(spent, limit), high: 0.8 * limit, optimum: 0 }, text));
}

function copyButton(name, format, run, method, said) {
  return make("button", { type: "button", onclick: async () => {
    try {
      const text = await askText(`runs/${run.id}/table?format=${format}&method=${method}`);
      await navigator.clipboard.writeText(text);
      said.textContent = `Copied as ${name}.`;
    } catch (error) {
      said.textContent = `Not copied: ${error.message}`;
    }
  } }, `Copy ${name}`);
}

function fillBelow(place, run, method, choose) {
  const rows = run.rows.filter((row) => row.method === method);
  const methods = run.rows.map((row) => make("button", { type: "button", "aria-pressed": String(row.method === method), onclick: () => choose(row.method) }, row.method));
  const said = make("span", { class: "quiet", role: "status" }, place.querySelector("[role=status]")?.textContent ?? "");
  const copies = Object.entries(FORMATS).map(([name, format]) => copyButton(name, format, run, method, said));
  const focused = place.contains(document.activeElement) ? document.activeElement.textContent : null;
  const card = (title, ...content) => make("section", { class: "card", "aria-label": title }, make("h2", {}, title), ...content);
  place.replaceChildren(
    card("Emissions", make("div", { class: "bar", role: "group", "aria-label": "Method" }, ...methods, ...copies, said), table(
      [{ label: "method" }, { label: "GPU hours", number: true }, { label: "W/device", number: true }, { label: "energy", number: true }, { label: "PUE", number: true }, { label: "kg/kWh", number: true }, { label: "CO₂e", number: true }, { label: "assumed" }],
      rows.map((row) => [row.method, plain(row.gpu_hours), plain(row.power_w), energy(row.facility_kwh), plain(row.pue), plain(row.intensity_kg_per_kwh), carbon(row.tco2e), row.assumed.join(", ") || "nothing"]))),
    card("Devices", table(
      [{ label: "device" }, { label: "host" }, { label: "how" }, { label: "mean", number: true }, { label: "highest", number: true }, { label: "energy", number: true }, { label: "coverage", number: true }],
      run.devices.map((device) => [`${device.name} ${device.uuid.slice(0, 12)}`, device.host, `${device.meter}, ${device.quality}`, si(device.power_mean_w, "W"), si(device.power_max_w, "W"), energy(device.energy_kwh), share(device.coverage)]))),
    card("Nodes", table([{ label: "host" }, { label: "last heartbeat" }], run.nodes.map((node) => [node.host, clock(node.heartbeat)]))),
    card("Events", run.events.length ? table([{ label: "time" }, { label: "kind" }, { label: "message" }],
      run.events.slice(-MAX_EVENTS).reverse().map((event) => [clock(event.time), event.kind, make("td", { class: "wide" }, event.message || Object.values(event.data).join(", "))])) : make("p", { class: "quiet" }, "None.")));
  if (focused) [...place.querySelectorAll("button")].find((button) => button.textContent === focused)?.focus();
}
