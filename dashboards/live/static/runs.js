// The list of runs: search, filter, sort, and choose some to compare.

import { ask, link, linkTrouble, Refused } from "./api.js";
import { badge, drawing, make, refill, status, table } from "./dom.js";
import { carbon, cost, duration, energy, full, plain, warnings, when } from "./format.js";
import { Span } from "./span.js";
import { Sums } from "./sums.js";
import { Status } from "./vocabulary.js";

const REFRESH_MS = 2000;
const MAX_COMPARED = 5;
const COLUMNS = [
  ["name", "run"],
  ["status", "status"],
  ["started", "started"],
  ["duration", "duration", true],
  ["energy", "device energy", true],
  ["co2e", "CO₂e", true],
  ["money", "cost", true],
  ["loss", "final loss", true],
];
const SPARK = { width: 90, height: 22 };

// `asked` is the query of the page's address, which follows what is chosen.
export function showRuns(page, asked) {
  return new RunsPage(page, asked);
}

class RunsPage {
  constructor(page, asked) {
    const of = (name) => asked.get(name) ?? "";
    const sort = of("sort").replace("-", "");
    this.chosen = new Map();
    this.sort = { key: "started", down: true };
    if (COLUMNS.some(([key]) => key === sort)) this.sort = { key: sort, down: of("sort").startsWith("-") };
    this.found = null;
    this.stopped = false;
    const again = () => this.refresh();
    this.search = make("input", {
      type: "search",
      placeholder: "Search name, project, user, status, command",
      "aria-label": "Search runs",
      oninput: again,
      value: of("search"),
    });
    this.status = make(
      "select",
      { "aria-label": "Status", onchange: again },
      ...["", ...Object.values(Status)].map((name) => make("option", { value: name }, name || "any status")),
    );
    this.status.value = Object.values(Status).includes(of("status")) ? of("status") : "";
    this.project = names("Project", "any project", again, of("project"));
    this.user = names("User", "any user", again, of("user"));
    this.span = new Span(again, of("when"));
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
      this.span.element,
      this.status,
      this.project,
      this.user,
      make("label", { class: "sorts" }, make("span", { class: "label" }, "Sort by"), this.order),
      this.compare,
    );
    this.sums = new Sums(
      () => this.filters(),
      of("by"),
      () => this.remember(),
    );
    page.replaceChildren(make("h1", { tabindex: "-1" }, "Runs"), this.bar, this.sums.element, this.place);
    this.refresh();
  }

  stop() {
    this.stopped = true;
    clearTimeout(this.timer);
    this.sums.stop();
    link("");
  }

  sortBy(key, down = key !== "name") {
    this.sort = { key, down };
    this.order.value = key;
    this.refresh();
  }

  filters() {
    return { ...this.words(), ...this.span.query };
  }

  words() {
    return {
      search: this.search.value,
      status: this.status.value,
      project: this.project.value,
      user: this.user.value,
    };
  }

  // In the address, so that a reload and a link that is sent show the same.
  remember() {
    const sort = (this.sort.down ? "-" : "") + this.sort.key;
    const own = { when: this.span.value, by: this.sums.by.value, sort: sort === "-started" ? "" : sort };
    const said = { ...this.words(), ...own };
    const query = new URLSearchParams(Object.entries(said).filter(([, value]) => value)).toString();
    const address = `#/${query ? `?${query}` : ""}`;
    if (address !== (location.hash || "#/")) history.replaceState(null, "", address);
  }

  async refresh() {
    clearTimeout(this.timer);
    this.remember();
    const asked = new URLSearchParams({
      ...this.filters(),
      sort: (this.sort.down ? "-" : "") + this.sort.key,
    });
    this.sums.refresh();
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
    const filtered = Object.values(this.filters()).some(Boolean);
    const nothing = !found.runs.length && !filtered;
    this.bar.hidden = this.sums.element.hidden = nothing;
    this.place.classList.toggle("start", nothing);
    if (nothing) return refill(this.place, ...start(found.message));
    offer(this.project, found.projects, 1);
    offer(this.user, found.users, 2); // one user's ledger needs no such choice
    return this.draw();
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
    return { key: item.id, cells: this.cells(item) };
  }

  cells(item) {
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
        ...warnings(item).map(badge),
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
      cost(item.cost, item.currency),
      lost ? make("span", { class: "alert" }, "not a number") : plain(item.final_loss),
      make("td", { class: "first" }, sparkline(item.losses)),
    ];
  }
}

function names(label, any, again, chosen) {
  const list = make("select", { "aria-label": label, onchange: again }, make("option", { value: "" }, any));
  offer(list, [], 1, chosen);
  return list;
}

// The names that a list offers, where there are at least so many.
function offer(list, found, least, chosen = list.value) {
  list.hidden = found.length < least && !chosen;
  const offered = chosen && !found.includes(chosen) ? [...found, chosen] : found;
  const [any, ...known] = list.options;
  if (known.map((option) => option.value).join("\n") === offered.join("\n")) return;
  list.replaceChildren(any, ...offered.map((name) => make("option", { value: name }, name)));
  list.value = chosen;
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
