// The list of runs: search, sort, and choose some to compare.

import { ask, link } from "./api.js";
import { drawing, make, table } from "./dom.js";
import { carbon, clock, duration, energy, money, plain, unmeasured } from "./format.js";

const REFRESH_MS = 2000;
const MAX_COMPARED = 5;
const COLUMNS = [
  ["name", "run"], ["status", "status"], ["started", "started"], ["duration_s", "duration", true],
  ["energy_kwh", "energy", true], ["tco2e", "CO₂e", true], ["cost", "money", true], ["final_loss", "last loss", true],
];
const SPARK = { width: 90, height: 22 };

export function showRuns(page) {
  const chosen = new Set();
  let sort = { key: "started", down: true }, items = [], matching = 0, timer, stopped = false;
  const search = make("input", { type: "search", placeholder: "Search name, project, user, status, command", "aria-label": "Search runs" });
  const status = make("select", { "aria-label": "Status" },
    ...["", "running", "completed", "failed", "interrupted"].map((name) => make("option", { value: name }, name || "any status")));
  const compare = make("button", { type: "button", disabled: "" }, "Compare");
  const place = make("div", { class: "card" });
  page.replaceChildren(make("h1", {}, "Runs"), make("div", { class: "bar" }, search, status, compare), place);

  const draw = () => {
    const factor = sort.down ? -1 : 1;
    const order = [...items].sort((a, b) => factor * compareValues(a[sort.key], b[sort.key]));
    const heads = [{ label: "" }, ...COLUMNS.map(([key, label, number]) => ({
      number,
      label: make("button", { type: "button", onclick: () => { sort = { key, down: sort.key === key ? !sort.down : true }; draw(); } },
        label + (sort.key === key ? (sort.down ? " ↓" : " ↑") : "")),
    })), { label: "loss" }];
    const focused = document.activeElement?.textContent;
    place.replaceChildren(
      order.length ? table(heads, order.map(row)) : make("p", { class: "quiet" }, "No run matches."),
      matching > items.length ? make("p", { class: "quiet" }, `The newest ${items.length} of ${matching}: search for others.`) : "");
    [...place.querySelectorAll("th button")].find((button) => button.textContent === focused)?.focus();
    compare.disabled = chosen.size < 2;
    compare.textContent = chosen.size ? `Compare ${chosen.size}` : "Compare";
  };
  const row = (item) => [
    make("input", {
      type: "checkbox", "aria-label": `Choose ${item.name}`, ...(chosen.has(item.id) ? { checked: "" } : {}),
      onchange: (event) => {
        if (event.target.checked && chosen.size < MAX_COMPARED) chosen.add(item.id); else chosen.delete(item.id);
        draw();
      },
    }),
    make("a", { href: `#/run/${item.id}` }, item.name),
    make("span", { class: `status ${item.status}` }, item.status),
    clock(item.started), duration(item.duration_s),
    [energy(item.energy_kwh), ...unmeasured(item.quality)].join(" "),
    carbon(item.tco2e), money(item.cost, item.currency), plain(item.final_loss),
    sparkline(item.losses),
  ];
  const refresh = async () => {
    try {
      const found = await ask(`runs?search=${encodeURIComponent(search.value)}&status=${status.value}`);
      if (stopped) return;
      link("live");
      ({ runs: items, matching } = found);
      if (!items.length && !search.value && !status.value) place.replaceChildren(start(found.message ?? "This ledger holds no run yet.")); else draw();
    } catch (error) {
      if (stopped) return;
      link("lost the server, trying again…");
      if (!items.length) place.replaceChildren(make("p", { class: "trouble" }, error.message));
    }
    clearTimeout(timer);
    timer = setTimeout(refresh, REFRESH_MS);
  };
  search.addEventListener("input", refresh);
  status.addEventListener("change", refresh);
  compare.addEventListener("click", () => { location.hash = `#/compare/${[...chosen].join(",")}`; });
  refresh();
  return { stop: () => { stopped = true; clearTimeout(timer); link(""); } };
}

// The loss over the run as a small picture; its numbers are in the column beside it.
function sparkline(losses) {
  const known = losses.filter((loss) => loss !== null);
  if (known.length < 2) return "–";
  const low = Math.min(...known), high = Math.max(...known);
  const points = losses.flatMap((loss, index) => (loss === null ? [] : [[
    (index / (losses.length - 1)) * SPARK.width, 1 + (1 - (loss - low) / (high - low || 1)) * (SPARK.height - 2),
  ]]));
  return drawing("svg", { class: "spark", viewBox: `0 0 ${SPARK.width} ${SPARK.height}`, width: SPARK.width, height: SPARK.height, role: "img", "aria-label": `loss from ${plain(known[0])} to ${plain(known[known.length - 1])}` },
    drawing("polyline", { points: points.map((point) => point.map((at) => at.toFixed(1)).join()).join(" ") }));
}

function start(message) {
  return make("div", { class: "trouble" }, make("p", {}, message),
    make("p", {}, "Start with ", make("code", {}, "carbontrack run -- python train.py"), " and this page fills by itself."));
}

function compareValues(a, b) {
  if (a === b) return 0;
  if (a === null) return -1;
  if (b === null) return 1;
  return a < b ? -1 : 1;
}
