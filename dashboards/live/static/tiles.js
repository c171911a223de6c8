// What a run has used, does now, and will have used at its planned end.

import { drawing, make } from "./dom.js";
import { carbon, duration, energy, money, percent, plain, share, si, unmeasured, whole } from "./format.js";
import { BudgetState, Method, Status } from "./vocabulary.js";

const J_PER_KWH = 3.6e6;

export const measured = (run) => run.rows.find((row) => row.method === Method.MEASURED);

// Tiles that keep their elements, so that a reader's selection and voice are not lost each second.
export class Tiles {
  constructor(place) {
    this.place = place;
    this.made = new Map();
  }

  fill(items) {
    const names = items.map(([name]) => name);
    if (names.join() !== [...this.made.keys()].join()) this.build(names);
    for (const [name, value, note = "", state = ""] of items) {
      const { tile, dd, small } = this.made.get(name);
      if (dd.textContent !== value) dd.textContent = value;
      if (small.textContent !== note) small.textContent = note;
      tile.classList.toggle("warning", state === "warning");
    }
  }

  build(names) {
    this.made = new Map(
      names.map((name) => {
        const dd = make("dd"),
          small = make("small");
        const extra = this.place.classList.contains("tiles") ? "card " : "";
        return [
          name,
          {
            dd,
            small,
            tile: make("div", { class: `${extra}tile`, "data-tile": name }, make("dt", {}, name), dd, small),
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
  const assumed = (...names) => (names.some((name) => row?.assumed.includes(name)) ? "factor assumed" : "");
  const facility = row?.facility_kwh ?? null;
  const pue = facility === null ? "" : `${energy(facility)} incl. PUE ${plain(row.pue, 3)}`;
  const devices = run.devices.length;
  const partly = run.power_now_devices < devices ? `${run.power_now_devices} of ${devices} devices` : "";
  const mean = run.devices.map((device) => device.power_mean_w).filter((watts) => watts !== null);
  return [
    run.status === Status.RUNNING
      ? ["power now", si(run.power_now_w, "W"), said(run.power_now_w === null ? "" : partly)]
      : [
          "mean power",
          mean.length
            ? si(
                mean.reduce((a, b) => a + b, 0),
                "W",
              )
            : "–",
          said("all devices"),
        ],
    ["energy of the devices", energy(run.energy_kwh, 4), said(pue)],
    ["CO₂e", carbon(row?.tco2e ?? null, 4), said(assumed("intensity"))],
    ["money", money(row?.cost ?? null, row?.currency), said(assumed("tariff", "price_per_gpu_hour"))],
  ];
}

export function minor(run) {
  const perToken = run.tokens && run.energy_kwh !== null ? (run.energy_kwh * J_PER_KWH) / run.tokens : null;
  const lost = run.loss_not_finite_since;
  return [
    lost === null
      ? ["last loss", plain(run.final_loss), `${whole(run.steps)} steps`]
      : ["last loss", "not a number", `since step ${lost}; ${plain(run.final_loss)} before`, "warning"],
    ["tokens", run.tokens === null ? "–" : si(run.tokens, "")],
    ["energy of a token", si(perToken, "J"), "at the devices"],
    ["duration", duration(run.duration_s)],
    ["coverage", share(run.coverage), "of device-seconds"],
  ];
}

// What is left, and the totals at the planned tokens with their range.
export function ahead(run) {
  const { plan } = run;
  const range = (values, format) => (values[1] === null ? "" : `${format(values[0])} to ${format(values[2])}`);
  const cost = (value) => money(value, plan.currency);
  return [
    ["time left", duration(plan.eta_s)],
    ["energy at the end", energy(plan.energy_kwh[1]), range(plan.energy_kwh, energy)],
    ["CO₂e at the end", carbon(plan.tco2e[1]), range(plan.tco2e, carbon)],
    ["money at the end", cost(plan.cost[1]), range(plan.cost, cost)],
  ];
}

export const way = (run) =>
  meter(`${si(run.tokens, "")} of ${si(run.plan.tokens, "")} tokens`, (run.tokens ?? 0) / run.plan.tokens, "way");

export const budget = ({ unit, limit, spent, share: part, state }) =>
  meter(
    `Budget: ${plain(spent, 3)} of ${plain(limit)} ${unit}${unit === "kWh" ? " incl. PUE" : ""}`,
    part,
    `budget ${state}`,
    { [BudgetState.NEAR]: "nearly spent", [BudgetState.SPENT]: "spent" }[state],
  );

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
