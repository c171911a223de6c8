// The tables of a run: emissions, devices, nodes and events.

import { askText, run as pathOf } from "./api.js";
import { card, choice, make, refill, swatch, table } from "./dom.js";
import { ago, carbon, cost, duration, energy, eventText, full, hours, moment, plain, share, si, stretch, when } from "./format.js";
import { openExplanation } from "./explain.js";
import { look } from "./palette.js";
import { MOST_LINES } from "./panels.js";
import { factorWord } from "./tiles.js";
import { Method, Status, TableFormat } from "./vocabulary.js";

const MAX_EVENTS = 200;
const OTHER = "other"; // as `account.phases` names what is in none
const FORMATS = { Markdown: TableFormat.MARKDOWN, LaTeX: TableFormat.LATEX, CSV: TableFormat.CSV };
const number = (label, title) => ({ label, number: true, title });

export class Emissions {
  constructor(run) {
    this.method = Method.MEASURED;
    this.said = make("span", { class: "quiet small", role: "status" });
    this.place = make("div");
    const methods = choice(
      "Method",
      run.rows.map((row) => [row.method, row.method]),
      this.method,
      (method) => {
        this.method = method;
        this.fill(this.run);
      },
    );
    const copies = Object.entries(FORMATS).map(([name, format]) =>
      make("button", { type: "button", onclick: () => this.copy(name, format) }, `Copy ${name}`),
    );
    this.element = card(
      "Emissions",
      "facility energy, CO₂e and cost include PUE",
      make(
        "div",
        { class: "bar" },
        make("span", { class: "label" }, "Method"),
        methods,
        make("button", { type: "button", onclick: () => openExplanation(this.run, this.method) }, "Explain"),
        ...copies,
        this.said,
      ),
      this.place,
    );
  }

  fill(run) {
    this.run = run;
    const rows = run.rows.filter((row) => row.method === this.method);
    refill(
      this.place,
      table(
        "Emissions",
        [
          { label: "method" },
          number("GPU hours"),
          number("W/device"),
          number("device energy"),
          number("PUE"),
          number("facility energy"),
          number("kgCO₂e/kWh"),
          number("CO₂e"),
          number("cost"),
          { label: "assumed" },
        ],
        rows.map((row) => [
          row.method,
          hours(row.gpu_hours),
          plain(row.power_w, 3),
          energy(row.energy_kwh),
          plain(row.pue, 3),
          energy(row.facility_kwh),
          plain(row.intensity_kg_per_kwh, 3),
          carbon(row.tco2e),
          cost(row.cost, row.currency),
          row.assumed.map(factorWord).join(", ") || "nothing",
        ]),
      ),
    );
  }

  async copy(name, format) {
    try {
      const text = await askText(`${pathOf(this.run.id)}/table?format=${format}&method=${this.method}`);
      await navigator.clipboard.writeText(text);
      this.said.textContent = `Copied as ${name}.`;
    } catch (error) {
      this.said.textContent = `Not copied: ${error.message}`;
    }
  }
}

// What all devices have in common stands in the heading; the colours are those of the charts.
export function devices(run) {
  const common = (of) => (new Set(run.devices.map(of)).size === 1 ? of(run.devices[0]) : null);
  const name = common((device) => device.name),
    host = common((device) => device.host),
    how = common(howOf);
  const note = [name ? `${run.devices.length} × ${name}` : null, host ? `on ${host}` : null, how]
    .filter(Boolean)
    .join(" · ");
  const columns = [
    [
      { label: "device" },
      (device, index) =>
        make("span", { class: "status-line" }, run.devices.length <= MOST_LINES ? swatch(look(index)) : null, ` ${device.label}`),
    ],
    [
      { label: "UUID" },
      (device) =>
        make("span", { title: device.uuid }, device.uuid.length > 18 ? `${device.uuid.slice(0, 16)}…` : device.uuid),
    ],
    name ? null : [{ label: "name" }, (device) => device.name],
    host ? null : [{ label: "host" }, (device) => device.host],
    how ? null : [{ label: "how" }, howOf],
    [number("mean"), (device) => si(device.power_mean_w, "W")],
    [number("highest"), (device) => si(device.power_max_w, "W")],
    [number("limit"), (device) => si(device.power_limit_w, "W")],
    [
      number("busy", "mean utilisation"),
      (device) => (device.util_pct === null ? "–" : `${plain(device.util_pct, 3)} %`),
    ],
    [number("energy", "of the device, before PUE"), (device) => energy(device.energy_kwh)],
    [number("coverage"), (device) => share(device.coverage)],
  ].filter(Boolean);
  return card(
    "Devices",
    note,
    run.devices.length
      ? table(
          "Devices",
          columns.map(([head]) => head),
          run.devices.map((device, index) => ({
            key: device.uuid,
            cells: columns.map(([, cell]) => cell(device, index)),
          })),
          run.devices.length > MOST_LINES ? "tall" : "",
        )
      : make("p", { class: "quiet" }, "This run has no device that can be measured."),
  );
}

// Where the energy went; nothing of a run that logged no phase.
export function phases(run) {
  if (run.phases.every((phase) => phase.name === OTHER)) return null;
  const coarse = run.phases_level_s > 1 ? ` · within ${stretch(run.phases_level_s)} split by time` : "";
  return card(
    "Phases",
    `energy of the devices, before PUE${coarse}`,
    table(
      "Phases",
      [{ label: "phase" }, number("time"), number("device energy"), number("share")],
      run.phases.map((phase) => [
        phase.name,
        duration(phase.duration_s),
        energy(phase.energy_kwh),
        phase.energy_share === null ? "–" : `${(100 * phase.energy_share).toFixed(1)} %`,
      ]),
    ),
  );
}

// What was tried, and what of it was done again; nothing of a run of one attempt.
export function attempts(run) {
  if (run.attempts.length < 2) return null;
  return card(
    "Attempts",
    "lost: energy of work that a later attempt did again",
    table(
      "Attempts",
      [number("attempt"), { label: "status" }, number("time"), number("energy"), number("lost"), { label: "nodes" }],
      run.attempts.map((one) => [
        String(one.attempt),
        one.status,
        duration(one.duration_s),
        energy(one.energy_kwh, 4),
        energy(one.lost_kwh, 4),
        one.nodes.join(", "),
      ]),
    ),
  );
}

const howOf = (device) => [...new Set([device.meter, device.quality])].join(", ");

export function nodes(run, now) {
  return card(
    "Nodes",
    "",
    table(
      "Nodes",
      [{ label: "host" }, { label: "heartbeat" }, number("devices"), number("coverage"), { label: "recorder" }],
      run.nodes.map((node) => {
        const here = run.devices.filter((device) => device.host === node.host);
        const covered = here.map((device) => device.coverage).filter((part) => part !== null);
        const mean = covered.length ? covered.reduce((a, b) => a + b, 0) / covered.length : null;
        return [node.host, heartbeat(node, now), String(here.length), share(mean), node.recorder_version];
      }),
    ),
  );
}

function heartbeat(node, now) {
  const stale = node.status === Status.INTERRUPTED;
  if (!stale && node.status !== Status.RUNNING) {
    return make("span", { title: full(node.heartbeat) }, `ended, last ${when(node.heartbeat)}`);
  }
  const heard = new Date(node.heard_ms).toISOString();
  const age = ago(Math.max(0, now - node.heard_ms) / 1000);
  return make(
    "span",
    { class: `status ${stale ? "stale" : "live"}`, title: full(heard) },
    stale ? `last heard ${when(heard)} (${age})` : age,
  );
}

export class Events {
  constructor() {
    this.kind = "";
    this.key = "";
    this.bar = make("div", { class: "bar" });
    this.place = make("div");
    this.element = card("Events", "", this.bar, this.place);
  }

  fill(run) {
    this.run = run;
    const key = `${run.events.length} ${this.kind}`;
    if (key === this.key) return;
    this.key = key;
    const counts = new Map();
    for (const event of run.events) counts.set(event.kind, (counts.get(event.kind) ?? 0) + 1);
    const kinds = [["", `all ${run.events.length}`], ...[...counts].map(([kind, count]) => [kind, `${kind} ${count}`])];
    refill(
      this.bar,
      ...(counts.size > 1
        ? [
            choice("Kind of event", kinds, this.kind, (kind) => {
              this.kind = kind;
              this.fill(this.run);
            }),
          ]
        : []),
    );
    const chosen = run.events.filter((event) => !this.kind || event.kind === this.kind);
    const rows = chosen.slice(-MAX_EVENTS).reverse();
    refill(
      this.place,
      rows.length
        ? table(
            "Events",
            [{ label: "time" }, { label: "kind" }, { label: "what" }],
            rows.map((event) => [
              make("span", { title: full(event.time) }, moment(event.time_ms / 1000)),
              event.kind,
              make("td", { class: "text" }, eventText(event)),
            ]),
            "tall",
          )
        : make("p", { class: "quiet" }, "None."),
      ...(chosen.length > rows.length
        ? [make("p", { class: "quiet small" }, `The last ${rows.length} of ${chosen.length}.`)]
        : []),
    );
  }
}
