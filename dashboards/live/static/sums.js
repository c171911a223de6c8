// What the runs that match came to, in all and by project, user, month or tag.

import { ask } from "./api.js";
import { badge, card, drawing, make, refill, table } from "./dom.js";
import { carbon, cost, energy, hours, share, unmeasured, whole } from "./format.js";
import { quota, Tiles } from "./tiles.js";

const REFRESH_MS = 10_000;
const KEYS = [
  ["", "nothing"],
  ["project", "project"],
  ["user", "user"],
  ["month", "month"],
  ["phase", "phase"],
  ["host", "host"],
  ["model", "model"],
];

export class Sums {
  constructor(filters, by, onChange) {
    this.filters = filters;
    this.stopped = false;
    const again = () => {
      this.refresh(true);
      onChange();
    };
    this.by = make("select", { "aria-label": "Group by", onchange: again });
    this.offer([], by);
    this.tiles = new Tiles(make("dl", { class: "minor" }));
    this.place = make("div");
    this.said = make("p", { class: "quiet small" });
    this.element = card(
      "Totals",
      "",
      make("label", { class: "bar" }, make("span", { class: "label" }, "Group by"), this.by),
      this.tiles.place,
      this.place,
      this.said,
    );
    this.element.classList.add("sums");
  }

  stop() {
    this.stopped = true;
  }

  offer(tags, chosen = this.by.value) {
    const keys = [...KEYS, ...tags.map((key) => [`tag:${key}`, `tag ${key}`])];
    const [, tag] = chosen.match(/^tag:(.+)/) ?? [];
    if (tag && !tags.includes(tag)) keys.push([chosen, `tag ${tag}`]);
    refill(this.by, ...keys.map(([value, label]) => make("option", { value }, label)));
    this.by.value = keys.some(([value]) => value === chosen) ? chosen : "";
  }

  // For other filters at once, for the same ones now and then.
  async refresh(now = false) {
    const asked = new URLSearchParams({ ...this.filters(), by: this.by.value }).toString();
    if (!now && asked === this.asked && Date.now() - this.askedAt < REFRESH_MS) return;
    this.asked = asked;
    this.askedAt = Date.now();
    try {
      const found = await ask(`totals?${asked}`);
      if (this.stopped || asked !== this.asked) return;
      this.offer(found.tags);
      this.show(found);
    } catch (error) {
      this.said.textContent = this.stopped ? "" : error.message; // the list says why
    }
  }

  show({ total, unknown, groups, summed, matching }) {
    const by = (value) => (value != null && total.assumed.length ? "with assumed factors" : "");
    const rest = matching > summed ? `the newest of ${whole(matching)}` : "";
    this.tiles.fill([
      { name: "runs", value: whole(summed), note: rest },
      { name: "GPU hours", value: hours(total?.gpu_hours) },
      { name: "device energy", value: energy(total?.energy_kwh), note: unmeasured(total?.quality).join(", ") },
      { name: "facility energy", value: energy(total?.facility_kwh), note: by(total?.facility_kwh) },
      { name: "CO₂e", value: carbon(total?.tco2e), note: by(total?.tco2e) },
      { name: "cost", value: cost(total?.cost, total?.currency), note: by(total?.cost) },
    ]);
    this.place.hidden = !groups.length;
    this.said.textContent = unknown.join("; ");
    if (groups.length) refill(this.place, this.grouped(groups));
  }

  grouped(groups) {
    const most = Math.max(...groups.map((row) => row.facility_kwh ?? 0));
    const number = (label) => ({ label, number: true });
    const limited = groups.some((row) => row.quotas.length);
    return table(
      "Totals by group",
      [
        { label: this.by.options[this.by.selectedIndex].text },
        number("runs"),
        number("GPU hours"),
        number("device energy"),
        number("facility energy"),
        { label: "" },
        number("CO₂e"),
        number("cost"),
        number("coverage"),
        ...(limited ? [{ label: "quota", class: "quotas" }] : []),
      ],
      groups.map((row) => ({
        key: row.label,
        cells: [
          make("th", { scope: "row" }, row.label, " ", ...unmeasured(row.quality).map(badge)),
          whole(row.runs),
          hours(row.gpu_hours),
          energy(row.energy_kwh),
          energy(row.facility_kwh),
          make("td", { "aria-hidden": "true" }, bar(most ? (row.facility_kwh ?? 0) / most : 0)),
          carbon(row.tco2e),
          cost(row.cost, row.currency),
          share(row.coverage),
          ...(limited ? [make("div", { class: "meters" }, ...row.quotas.map(quota))] : []),
        ],
      })),
    );
  }
}

// How much of the largest group; the number stands beside it.
const bar = (part) =>
  drawing(
    "svg",
    { class: "part", viewBox: "0 0 100 8", preserveAspectRatio: "none" },
    drawing("rect", { width: (100 * part).toFixed(1), height: 8 }),
  );
