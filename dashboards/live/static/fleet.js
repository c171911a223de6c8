// The fleet: what every device that is recorded does now, as a map and as a table of groups.

import { ask, link, linkTrouble, Refused } from "./api.js";
import { card, choice, make, refill, select, table } from "./dom.js";
import { FleetMap } from "./fleetmap.js";
import { ago, percent, si, whole } from "./format.js";
import { Tiles } from "./tiles.js";

const [REFRESH_MS, MANY_MS, MANY] = [2000, 5000, 1000]; // many devices: less often, as nodes ship every 10 s
const MOST_ROWS = 200; // of the table
const MOST_TITLED = 60; // groups on the map; what is left stands below them as one
const WATTS = (value) => si(value, "W");
// What a cell shows: its value, the value of the brightest colour, and how it is written.
const SHOWN = {
  power: { label: "power", of: (at, of) => of.power_w[at], format: WATTS },
  limit: { label: "of the limit", of: (at, of) => ratio(of.power_w[at], of.limit_w[at]), full: 1, format: percent },
  busy: { label: "utilisation", of: (at, of) => ratio(of.util_pct[at], 100), full: 1, format: percent },
};
const GROUPS = [
  ["host", "host"],
  ["project", "project"],
  ["run", "run"],
];
const ratio = (value, of) => (value === null || !of ? null : value / of);

// `asked` is the query of the page's address, which follows what is chosen.
export function showFleet(page, asked) {
  return new FleetPage(page, asked);
}

class FleetPage {
  constructor(page, asked) {
    const of = (name, known, usual) => (known.includes(asked.get(name)) ? asked.get(name) : usual);
    this.shown = of("show", Object.keys(SHOWN), "power");
    this.by = of(
      "by",
      GROUPS.map(([key]) => key),
      "host",
    );
    this.found = null;
    this.stopped = false;
    document.title = "Fleet · carbontrack";
    const again = () => {
      this.remember();
      this.draw();
    };
    this.search = make("input", {
      type: "search",
      placeholder: "Search hosts, runs and projects",
      "aria-label": "Search hosts, runs and projects",
      value: asked.get("search") ?? "",
      oninput: again,
    });
    this.bar = make(
      "div",
      { class: "bar", role: "search" },
      this.search,
      choice(
        "Colour by",
        Object.entries(SHOWN).map(([key, { label }]) => [key, label]),
        this.shown,
        (key) => {
          this.shown = key;
          again();
        },
      ),
      make(
        "label",
        { class: "together" },
        make("span", { class: "label" }, "Group by"),
        select("Group by", GROUPS, this.by, (key) => {
          this.by = key;
          again();
        }),
      ),
    );
    this.tiles = new Tiles(make("dl", { class: "minor card" }));
    this.map = new FleetMap((at) => this.describe(at));
    this.place = make("div");
    this.trouble = make("p", { class: "alarm", role: "alert" });
    this.mapCard = card("Devices now", "", this.map.element);
    this.mapCard.classList.add("fleet");
    this.groups = card("Groups", "", this.place);
    this.empty = make("div", { class: "card start", hidden: "" });
    page.replaceChildren(
      make("h1", { tabindex: "-1" }, "Fleet"),
      this.trouble,
      this.bar,
      this.tiles.place,
      make("div", { class: "below" }, this.mapCard, this.groups),
      this.empty,
    );
    this.refresh();
  }

  stop() {
    this.stopped = true;
    clearTimeout(this.timer);
    this.map.stop();
    link("");
  }

  restyle() {
    this.map.draw();
  }

  remember() {
    const said = { show: this.shown, by: this.by, search: this.search.value };
    const usual = { show: "power", by: "host", search: "" };
    const query = new URLSearchParams(Object.entries(said).filter(([key, value]) => value !== usual[key])).toString();
    history.replaceState(null, "", `#/fleet${query ? `?${query}` : ""}`);
  }

  async refresh() {
    clearTimeout(this.timer);
    try {
      const found = await ask("fleet");
      if (this.stopped) return;
      link(found.message ? "" : "live");
      this.found = found;
      this.trouble.textContent = "";
      this.draw();
    } catch (error) {
      if (this.stopped) return;
      linkTrouble(error);
      if (error instanceof Refused || !this.found) this.trouble.textContent = error.message;
    }
    const many = (this.found?.devices.host.length ?? 0) > MANY;
    this.timer = setTimeout(() => this.refresh(), many ? MANY_MS : REFRESH_MS);
  }

  draw() {
    const { found } = this;
    if (!found) return;
    const nothing = !found.hosts.length;
    for (const one of [this.bar, this.tiles.place, this.mapCard, this.groups]) one.hidden = nothing;
    this.empty.hidden = !nothing;
    if (nothing) return refill(this.empty, ...start(found.message));
    const groups = grouped(found, this.by, this.search.value.trim().toLowerCase());
    const all = sum(
      found,
      groups.flatMap((group) => group.devices),
    );
    this.tiles.fill(tiles(all));
    const shown = SHOWN[this.shown];
    const value = (at) => (found.devices.stale[at] ? null : shown.of(at, found.devices));
    this.map.show({
      hosts: found.devices.host,
      hostNames: found.hosts,
      groups: this.by === "host" ? [{ title: "", devices: groups.flatMap((one) => one.devices) }] : titled(groups),
      value,
      stale: (at) => found.devices.stale[at],
      high: shown.full ?? highest(found.devices),
      format: shown.format,
      words: spoken(all, groups, this.by),
    });
    this.drawTable(groups);
  }

  drawTable(groups) {
    const { found } = this;
    const rows = groups.map((group) => ({ ...group, ...sum(found, group.devices) }));
    const silent = (row) => (this.by === "host" ? row.silent : 0); // first, as one looks for them
    rows.sort((a, b) => silent(b) - silent(a) || (b.power_w ?? -1) - (a.power_w ?? -1));
    const number = (label) => ({ label, number: true });
    const heads = [
      { label: this.by },
      number(this.by === "host" ? "runs" : "nodes"),
      number("devices"),
      number("power"),
      number("of the limit"),
      number("utilisation"),
      { label: "last heard" },
    ];
    const more = rows.length > MOST_ROWS ? `The first ${MOST_ROWS} of ${whole(rows.length)}: search for others.` : "";
    refill(
      this.place,
      rows.length
        ? table(
            "Groups of devices",
            heads,
            rows.slice(0, MOST_ROWS).map((row) => ({
              key: row.key,
              cells: [
                make(
                  "th",
                  { scope: "row" },
                  row.run ? make("a", { href: `#/run/${row.run.id}` }, row.title) : row.title,
                  row.note ? make("span", { class: "more" }, row.note) : null,
                ),
                whole(this.by === "host" ? row.runs : row.nodes),
                whole(row.count),
                WATTS(row.power_w),
                percent(row.share),
                percent(row.busy),
                row.stale
                  ? make("span", { class: "status stale" }, silence(row, found.now_ms))
                  : ago((found.now_ms - row.newest_ms) / 1000),
              ],
            })),
            "tall",
          )
        : make("p", { class: "quiet" }, "No device matches."),
      more ? make("p", { class: "quiet small" }, more) : null,
    );
  }

  // What is said of a device: words, and a link to its run.
  describe(at) {
    const { devices, hosts, runs, names, now_ms } = this.found;
    const run = runs[devices.run[at]];
    const power = devices.power_w[at] === null ? "power unknown" : WATTS(devices.power_w[at]);
    const limit = devices.limit_w[at] ? ` of ${WATTS(devices.limit_w[at])}` : "";
    const busy = devices.util_pct[at] === null ? "" : `${percent(devices.util_pct[at] / 100)} busy`;
    const now = devices.stale[at] ? heard(devices.heard_ms[at], now_ms) : `${power}${limit}`;
    const words = [
      hosts[devices.host[at]],
      `${devices.kind[at]} ${devices.index[at]} ${names[devices.name[at]]}`,
      run.project ? `${run.name} (${run.project})` : run.name,
      now,
      devices.stale[at] ? "" : busy,
    ];
    return { words: words.filter(Boolean), href: `#/run/${run.id}`, run: run.name };
  }
}

// Of a group of which some devices are silent.
function silence({ nodes, silent, oldest_ms }, now_ms) {
  const since = heard(oldest_ms, now_ms);
  return nodes === 1 ? since : `${whole(silent)} ${silent === 1 ? "node" : "nodes"} ${since}`;
}

const heard = (ms, now_ms) => `last heard ${ago((now_ms - ms) / 1000)}`;

// The groups with the devices that match, each { key, title, devices }.
function grouped(found, by, search) {
  const { devices, hosts, runs } = found;
  const groups = new Map();
  devices.host.forEach((host, at) => {
    const run = runs[devices.run[at]];
    if (search && ![hosts[host], run.name, run.project ?? ""].some((one) => one.toLowerCase().includes(search))) return;
    const [key, title, note] = {
      host: () => [hosts[host], hosts[host], ""],
      project: () => (run.watch ? ["~", "no job", "watched"] : [run.project ?? "", run.project ?? "–", ""]),
      run: () => [run.id, run.name, run.project ?? ""],
    }[by]();
    let group = groups.get(key);
    if (!group) groups.set(key, (group = { key, title, note, devices: [], run: by === "run" ? run : null }));
    group.devices.push(at);
  });
  return [...groups.values()];
}

// On the map the largest groups have a title; the others stand below as one.
function titled(groups) {
  const ordered = [...groups].sort((a, b) => b.devices.length - a.devices.length);
  const rest = ordered.slice(MOST_TITLED).flatMap((one) => one.devices);
  const others = { title: `${ordered.length - MOST_TITLED} others`, devices: rest };
  return rest.length ? [...ordered.slice(0, MOST_TITLED), others] : ordered;
}

// What some devices come to; null where nothing is known.
function sum({ devices }, numbers) {
  const hosts = new Set(),
    runs = new Set(),
    silent = new Set();
  const all = { count: numbers.length, power_w: null, limit_w: 0, drawn_w: 0, stale: 0, newest_ms: 0, oldest_ms: Infinity };
  let busy = 0,
    known = 0;
  for (const at of numbers) {
    hosts.add(devices.host[at]);
    runs.add(devices.run[at]);
    all.newest_ms = Math.max(all.newest_ms, devices.heard_ms[at]);
    all.oldest_ms = Math.min(all.oldest_ms, devices.heard_ms[at]);
    if (devices.stale[at]) {
      all.stale += 1;
      silent.add(devices.host[at]);
      continue;
    }
    const power_w = devices.power_w[at];
    if (power_w !== null) all.power_w = (all.power_w ?? 0) + power_w;
    if (power_w !== null && devices.limit_w[at]) {
      all.limit_w += devices.limit_w[at];
      all.drawn_w += power_w;
    }
    if (devices.util_pct[at] !== null) {
      busy += devices.util_pct[at] / 100;
      known += 1;
    }
  }
  const share = all.limit_w ? all.drawn_w / all.limit_w : null;
  return { ...all, nodes: hosts.size, runs: runs.size, silent: silent.size, share, busy: known ? busy / known : null };
}

const tiles = (all) => [
  { name: "power now", value: WATTS(all.power_w) },
  { name: "of the limit", value: percent(all.share), note: all.limit_w ? `of ${WATTS(all.limit_w)}` : "" },
  { name: "utilisation", value: percent(all.busy), note: "mean of the devices" },
  { name: "devices", value: whole(all.count) },
  { name: "nodes", value: whole(all.nodes) },
  { name: "runs", value: whole(all.runs) },
  { name: "silent nodes", value: whole(all.silent), note: all.silent ? "not heard of lately" : "" },
];

// The highest limit, so that the colours stay as they are while the fleet works; without one the
// highest power.
function highest({ power_w, limit_w }) {
  const most = (column) => column.reduce((high, value) => Math.max(high, value ?? 0), 0);
  return most(limit_w) || most(power_w) || 1;
}

function spoken(all, groups, by) {
  const silent = all.silent ? `, ${whole(all.silent)} nodes silent` : "";
  const of = by === "host" ? "" : ` in ${groups.length} groups by ${by}`;
  return `Map of ${whole(all.count)} devices on ${whole(all.nodes)} nodes${of}: ${WATTS(all.power_w)}${silent}. The arrow keys go from device to device.`;
}

const start = (message) => [
  make("h2", {}, "No device is recorded now"),
  make("p", { class: "quiet" }, message ?? "A device is here while a run or a watch records it."),
  make("pre", {}, make("code", {}, "carbontrack watch")),
];
