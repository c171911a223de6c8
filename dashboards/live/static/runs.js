// The list of runs: search, filter, sort, and choose some to compare.

import { ask, link, linkTrouble, Refused } from "./api.js";
import { badge, drawing, make, refill, status, table } from "./dom.js";
import { carbon, duration, energy, full, money, plain, unmeasured, when } from "./format.js";
import { Status } from "./vocabulary.js";

const REFRESH_MS = 2000;
const MAX_COMPARED = 5;
const COLUMNS = [
  ["name", "run"],
  ["status", "status"],
  ["started", "started"],
  ["duration", "duration", true],
  ["energy", "energy", true],
  ["co2e", "CO₂e", true],
  ["money", "money", true],
  ["loss", "last loss", true],
];
const SPARK = { width: 90, height: 22 };

export function showRuns(page) {
  return new RunsPage(page);
}

class RunsPage {
  constructor(page) {
    this.chosen = new Map();
    this.sort = { key: "started", down: true };
    this.found = null;
    this.stopped = false;
    const again = () => this.refresh();
    this.search = make("input", {
      type: "search",
      placeholder: "Search name, project, user, status, command",
      "aria-label": "Search runs",
      oninput: again,
    });
    this.status = make(
      "select",
      { "aria-label": "Status", onchange: again },
      ...["", ...Object.values(Status)].map((name) => make("option", { value: name }, name || "any status")),
    );
    this.project = make(
      "select",
      { "aria-label": "Project", onchange: again, hidden: "" },
      make("option", { value: "" }, "any project"),
    );
    this.order = make(
      "select",
      { onchange: () => this.sortBy(this.order.value) },
      ...COLUMNS.map(([key, label]) => make("option", { value: key }, label)),
    );
    this.compare = make(
      "button",
      {
        type: "button",
        class: "primary",
        disabled: "",
        onclick: () => {
          location.hash = `#/compare/${[...this.chosen.keys()].join(",")}`;
        },
      },
      "Compare",
    );
    this.order.value = this.sort.key;
    this.place = make("div", { class: "card" });
    this.bar = make(
      "div",
      { class: "bar", role: "search" },
      this.search,
      this.status,
      this.project,
      make("label", { class: "sorts" }, make("span", { class: "label" }, "Sort by"), this.order),
      this.compare,
    );
    page.replaceChildren(make("h1", { tabindex: "-1" }, "Runs"), this.bar, this.place);
    this.refresh();
  }

  stop() {
    this.stopped = true;
    clearTimeout(this.timer);
    link("");
  }

  sortBy(key, down = key !== "name") {
    this.sort = { key, down };
    this.order.value = key;
    this.refresh();
  }

  async refresh() {
    clearTimeout(this.timer);
    const asked = new URLSearchParams({
      search: this.search.value,
      status: this.status.value,
      project: this.project.value,
      sort: (this.sort.down ? "-" : "") + this.sort.key,
    });
    this.asked = asked.toString();
    try {
      const found = await ask(`runs?${asked}`);
      if (this.stopped || asked.toString() !== this.asked) return;
      link(found.message ? "" : "live");
      this.show(found);
    } catch (error) {
      if (this.stopped) return;
      linkTrouble(error);
      if (error instanceof Refused || !this.found)
        refill(this.place, make("p", { class: "alarm", role: "alert" }, error.message));
      this.found = null;
    }
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.refresh(), REFRESH_MS);
  }

  show(found) {
    const same = JSON.stringify(found) === JSON.stringify(this.found);
    this.found = found;
    if (same) return;
    const filtered = this.search.value || this.status.value || this.project.value;
    const nothing = !found.runs.length && !filtered;
    this.bar.hidden = nothing;
    this.place.classList.toggle("start", nothing);
    if (nothing) return refill(this.place, ...start(found.message));
    this.projects(found.projects);
    return this.draw();
  }

  projects(names) {
    const known = [...this.project.options].slice(1).map((option) => option.value);
    this.project.hidden = !names.length;
    if (known.join("\n") === names.join("\n")) return;
    const chosen = this.project.value;
    this.project.replaceChildren(
      make("option", { value: "" }, "any project"),
      ...names.map((name) => make("option", { value: name }, name)),
    );
    this.project.value = names.includes(chosen) ? chosen : "";
  }

  draw() {
    const { runs, matching, sorted } = this.found;
    const heads = [
      { label: "" },
      ...COLUMNS.map(([key, label, number]) => this.head(key, label, number)),
      { label: "loss" },
    ];
    const which = sorted === "all" ? "The first" : "Sorted among the newest";
    const rest = `${which} ${runs.length} of ${matching.toLocaleString("en")}: search for others.`;
    const more = matching > runs.length ? rest : "";
    refill(
      this.place,
      runs.length
        ? table(
            "Runs",
            heads,
            runs.map((item) => this.row(item)),
            "cards",
          )
        : make("p", { class: "quiet" }, "No run matches."),
      ...(more ? [make("p", { class: "quiet small" }, more)] : []),
    );
    this.compare.disabled = this.chosen.size < 2;
    this.compare.textContent = this.chosen.size ? `Compare ${this.chosen.size}` : "Compare";
  }

  head(key, label, number) {
    const on = this.sort.key === key,
      { down } = this.sort;
    const control = make(
      "button",
      {
        type: "button",
        "data-key": `sort ${key}`,
        onclick: () => (on ? this.sortBy(key, !down) : this.sortBy(key)),
      },
      label + (on ? (down ? " ↓" : " ↑") : ""),
    );
    return { label, number, control, sort: on ? (down ? "descending" : "ascending") : null };
  }

  row(item) {
    const at = item.id,
      { chosen } = this;
    const box = make("input", {
      type: "checkbox",
      "aria-label": `Choose ${item.name} to compare`,
      "data-key": `choose ${at}`,
      checked: chosen.has(at) ? "" : null,
      disabled: !chosen.has(at) && chosen.size >= MAX_COMPARED ? "" : null,
      onchange: (event) => {
        if (event.target.checked) chosen.set(at, item.name);
        else chosen.delete(at);
        this.draw();
      },
    });
    const lost = item.loss_not_finite_since !== null;
    return [
      make("td", {}, box),
      make(
        "th",
        { scope: "row" },
        make("a", { href: `#/run/${at}`, "data-key": `open ${at}` }, item.name),
        " ",
        ...unmeasured(item.quality).map(badge),
        item.project ? make("span", { class: "more" }, item.project) : null,
      ),
      make("td", { class: "end" }, status(item.status)),
      make(
        "td",
        { "data-label": "started", class: "first" },
        make("time", { datetime: item.started, title: full(item.started) }, when(item.started)),
      ),
      duration(item.duration_s),
      energy(item.energy_kwh),
      make("td", { class: "number first", "data-label": "CO₂e" }, carbon(item.tco2e)),
      money(item.cost, item.currency),
      lost ? make("span", { class: "alert" }, "not a number") : plain(item.final_loss),
      make("td", { class: "first" }, sparkline(item.losses)),
    ];
  }
}

// The loss over the run as a small picture; its numbers are in the column beside it.
function sparkline(losses) {
  const known = losses.filter((loss) => loss !== null);
  if (known.length < 2) return null;
  const usual = [...known].sort((a, b) => a - b)[Math.floor((known.length - 1) * 0.9)];
  const low = Math.min(...known),
    high = Math.min(Math.max(...known), Math.max(usual * 5, low));
  const { width, height } = SPARK;
  const points = losses.flatMap((loss, index) =>
    loss === null
      ? []
      : [
          [
            (index / (losses.length - 1)) * width,
            1 + (1 - (Math.min(loss, high) - low) / (high - low || 1)) * (height - 2),
          ],
        ],
  );
  return drawing(
    "svg",
    {
      class: "spark",
      viewBox: `0 0 ${width} ${height}`,
      width,
      height,
      preserveAspectRatio: "none",
      role: "img",
      "aria-label": `loss from ${plain(known[0])} to ${plain(known[known.length - 1])}`,
    },
    drawing("polyline", { points: points.map((point) => point.map((at) => at.toFixed(1)).join()).join(" ") }),
  );
}

function start(message) {
  return [
    make("h2", {}, "No run yet"),
    make("p", { class: "quiet" }, message ?? "This ledger holds no run yet."),
    make("pre", {}, make("code", {}, "carbontrack run -- python train.py")),
    make("p", { class: "quiet" }, "Start your training like this; the run then appears here."),
  ];
}
