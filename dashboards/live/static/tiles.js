// What a run has used, does now, and will have used at its planned end.

import { drawing, make } from "./dom.js";
import { carbon, cost, count, duration, energy, percent, plain, share, si, unmeasured, whole } from "./format.js";
import { BudgetState, Method, Status } from "./vocabulary.js";

const J_PER_KWH = 3.6e6;

export const measured = (run) => run.rows.find((row) => row.method === Method.MEASURED);

// Tiles that keep their elements, so that a reader's selection and voice are not lost each second.
// `onAssumed` is called where a reader asks what is assumed in a tile.
export class Tiles {
  constructor(place, onAssumed) {
    this.place = place;
    this.onAssumed = onAssumed;
    this.made = new Map();
  }

  // Items are { name, value, note, warning, assumed }: `assumed` are the names of factors.
  fill(items) {
    const names = items.map(({ name }) => name);
    if (names.join() !== [...this.made.keys()].join()) this.build(names);
    for (const { name, value, note = "", warning = false, assumed = [] } of items) {
      const { tile, dd, said, ask } = this.made.get(name);
      if (dd.textContent !== value) dd.textContent = value;
      if (said.textContent !== note) said.textContent = note;
      const words = assumed.length ? `assumed ${assumed.join(", ")}` : "";
      if (ask.textContent !== words) ask.textContent = words;
      ask.hidden = !words;
      tile.classList.toggle("warning", warning);
    }
  }

  build(names) {
    this.made = new Map(
      names.map((name) => {
        const dd = make("dd"),
          said = make("span"),
          ask = make("button", {
            type: "button",
            class: "assumed",
            title: "How this was worked out, and from which factors",
            onclick: () => this.onAssumed?.(),
          });
        const extra = this.place.classList.contains("tiles") ? "card " : "";
        return [
          name,
          {
            dd,
            said,
            ask,
            tile: make(
              "div",
              { class: `${extra}tile`, "data-tile": name },
              make("dt", {}, name),
              dd,
              make("dd", { class: "note" }, said, ask),
            ),
          },
        ];
      }),
    );
    this.place.replaceChildren(...[...this.made.values()].map(({ tile }) => tile));
  }
}

export function major(run) {
  const row = measured(run),
    words = unmeasured(run.quality);
  const said = (...more) => [...words, ...more].filter(Boolean).join(", ");
  const facility = row?.facility_kwh ?? null;
  // Of a run that went on on another node, those of one node at a time.
  const known = run.devices.filter((device) => device.power_mean_w !== null),
    used_j = sum(known.map((device) => device.power_mean_w * device.recorded_s));
  return [
    run.status === Status.RUNNING
      ? {
          name: "power now",
          value: si(run.power_now_w, "W"),
          note: said(run.power_now_w === null ? "" : ofDevices(run.power_now_devices, run.devices_now)),
        }
      : {
          name: "mean power",
          value: si(known.length ? used_j / row.active_s : null, "W"),
          note: said(known.length ? ofDevices(known.length, run.devices.length) : ""),
        },
    {
      name: "facility energy",
      value: energy(facility),
      note: said(
        run.energy_kwh === null ? "" : unbroken(`devices ${energy(run.energy_kwh)}`),
        facility === null ? "" : unbroken(`PUE ${plain(row.pue, 3)}`),
      ),
      assumed: assumedOf(row, facility, "pue"),
    },
    {
      name: "CO₂e",
      value: carbon(row?.tco2e ?? null),
      note: said(),
      assumed: assumedOf(row, row?.tco2e, "intensity"),
    },
    {
      name: "cost",
      value: cost(row?.cost ?? null, row?.currency),
      note: said(row?.cost_of),
      assumed: assumedOf(row, row?.cost, "tariff", "price_per_gpu_hour", "gpu_price"),
    },
  ];
}

const ofDevices = (known, all) => (known < all ? `${known} of ${all} devices` : "all devices");
const unbroken = (text) => text.replaceAll(" ", "\u00a0");
const sum = (values) => values.reduce((a, b) => a + b, 0);
const WORDS = { pue: "PUE", price_per_gpu_hour: "price", gpu_price: "GPU price" };
export const factorWord = (name) => WORDS[name] ?? name.replaceAll("_", " ");
const assumedOf = (row, value, ...names) =>
  value === null || value === undefined ? [] : names.filter((name) => row.assumed.includes(name)).map(factorWord);

export function minor(run) {
  const perToken = run.tokens && run.energy_kwh !== null ? (run.energy_kwh * J_PER_KWH) / run.tokens : null;
  const lost = run.loss_not_finite_since;
  return [
    lost === null
      ? { name: "final loss", value: plain(run.final_loss), note: meanOf(run) }
      : {
          name: "final loss",
          value: "not a number",
          note: `since step ${lost}; ${plain(run.final_loss)} before`,
          warning: true,
        },
    { name: "tokens", value: count(run.tokens), note: `${whole(run.steps)} steps` },
    { name: "device energy of a token", value: si(perToken, "J") },
    { name: "duration", value: duration(run.duration_s) },
    { name: "coverage", value: share(run.coverage), note: "of device-seconds" },
  ];
}

const meanOf = (run) => (run.final_loss_steps > 1 ? `mean of the last ${whole(run.final_loss_steps)} steps` : "");

// What is left, and the totals at the planned tokens with their range.
export function ahead(run) {
  const { plan } = run;
  const item = (name, values, write) => ({
    name,
    value: write(values[1]),
    note: values[1] === null ? "" : `${write(values[0])} to ${write(values[2])}`,
  });
  return [
    { name: "time left", value: duration(plan.eta_s) },
    item("facility energy at the end", plan.facility_kwh, energy),
    item("CO₂e at the end", plan.tco2e, carbon),
    item("cost at the end", plan.cost, (value) => cost(value, plan.currency)),
  ];
}

export const way = (run) =>
  meter(`${count(run.tokens)} of ${count(run.plan.tokens)} tokens`, (run.tokens ?? 0) / run.plan.tokens, "way");

export const budget = ({ unit, limit, spent, share: part, state }) =>
  meter(
    `Budget: ${plain(spent, 3)} of ${plain(limit)} ${unit}${unit === "kWh" ? " of facility energy" : ""}`,
    part,
    `budget ${state}`,
    SAID[state],
  );

const SAID = { [BudgetState.NEAR]: "nearly spent", [BudgetState.SPENT]: "spent" };

// One limit of a project in its period; what is not known of it says why, and what is known of some
// of its runs is the least that was used.
export function quota({ period, unit, limit, used, share: part, state, why }) {
  const of = `of ${limit.toLocaleString("en")} ${unit} in ${period}`;
  if (part === null) return make("div", { class: "meter", title: why }, make("span", {}, `unknown ${of}`));
  const least = why ? "at least " : "";
  const found = meter(
    `${least}${used < 1000 ? plain(used, 3) : whole(used)} ${of}`,
    part,
    `budget ${state ?? BudgetState.WITHIN}`,
    SAID[state],
  );
  if (why) found.title = why;
  return found;
}

function meter(text, part, kind, word = "") {
  const filled = Math.max(0, Math.min(1, part));
  return make(
    "div",
    { class: `meter ${kind}` },
    make("span", {}, word ? `${text}, ${word}` : text),
    drawing(
      "svg",
      {
        viewBox: "0 0 100 1",
        preserveAspectRatio: "none",
        role: "meter",
        "aria-label": text,
        "aria-valuemin": 0,
        "aria-valuemax": 100,
        "aria-valuenow": Math.round(filled * 100),
      },
      drawing("rect", { width: filled * 100, height: 1 }),
    ),
    make("b", {}, percent(part)),
  );
}
