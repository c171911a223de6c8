// One run: what it uses and where it goes, its charts, devices, nodes, events and table.

import { ask, follow, link, NOT_FOUND, Refused, run as pathOf, serverNow } from "./api.js";
import { badge, choice, make, refill, status } from "./dom.js";
import { openExplanation } from "./explain.js";
import { duration, full, moment, si, stretch, warnings, when, zoneOf } from "./format.js";
import { hasChoice, kindsOf, Panels } from "./panels.js";
import { set, settings } from "./settings.js";
import { attempts, devices, Emissions, Events, nodes, phases } from "./tables.js";
import { ahead, budget, major, minor, Tiles, way } from "./tiles.js";
import { Timeline } from "./timeline.js";
import { Method, Status } from "./vocabulary.js";

const CLOCK_MS = 1000;
const SETTLE_MS = 120; // of a zoom or pan, before its windows are asked for
const VIEWS = [
  ["summary", "summary"],
  ["each", "a line each"],
];
const FOLLOWS = [
  [300, "5 min"],
  [3600, "1 h"],
  [null, "all"],
];

export function showRun(page, id) {
  return new RunPage(page, id);
}

class RunPage {
  constructor(page, id) {
    this.page = page;
    this.id = id;
    this.run = this.shown = this.panels = null;
    this.stopped = this.fetching = this.again = false;
    this.timeline = new Timeline(() => this.moved());
    this.alarm = make("p", { class: "alarm", role: "alert" });
    const loading = make("p", { class: "quiet" }, "Loading…");
    page.replaceChildren(make("h1", { tabindex: "-1" }, "Run"), this.alarm, loading);
    this.unfollow = follow(id, { onRun: (run) => this.hear(run), onTrouble: (error) => this.complain(error) });
    this.timer = setInterval(() => this.tick(), CLOCK_MS);
  }

  stop() {
    this.stopped = true;
    this.unfollow();
    clearInterval(this.timer);
    clearTimeout(this.settling);
    this.panels?.destroy();
  }

  restyle() {
    this.panels?.destroy();
    this.panels = null;
    if (this.shown) this.draw();
    if (this.run) this.fill();
  }

  complain(error) {
    const unknown = error.status === NOT_FOUND;
    this.alarm.textContent = error.message;
    if (this.run) return;
    refill(
      this.page,
      make("h1", { tabindex: "-1" }, unknown ? "No such run" : "Run"),
      this.alarm,
      make("p", {}, make("a", { href: "#/" }, "All runs")),
    );
    if (unknown) document.title = "No such run · carbontrack";
  }

  hear(run) {
    const first = !this.run;
    this.run = run;
    this.alarm.textContent = "";
    if (run.status !== Status.RUNNING) link(run.status === Status.INTERRUPTED ? "no heartbeat" : "ended", run.status);
    this.timeline.grow(run.started_ms / 1000, run.started_ms / 1000 + run.duration_s);
    const reading = document.activeElement?.tagName === "H1";
    if (first) this.build();
    this.fill();
    if (first && reading) this.page.querySelector("h1").focus({ preventScroll: true });
    if (first || !this.timeline.settled) this.load();
  }

  build() {
    const run = this.run;
    this.head = make("div");
    const explain = () => openExplanation(this.run, Method.MEASURED);
    this.big = new Tiles(make("dl", { class: "tiles", "aria-label": "Totals" }), explain);
    this.rest = new Tiles(make("dl", { class: "card minor", "aria-label": "More totals" }));
    this.coming = new Tiles(make("dl", { class: "minor", "aria-label": "At the planned tokens" }));
    this.progress = make("div", { class: "meters" });
    this.plan = make("section", { class: "card ahead", "aria-label": "Forecast" }, this.progress, this.coming.place);
    this.notes = make("ul", { class: "notes", "aria-label": "Notes" });
    this.charts = make("div", { class: "charts" });
    this.emissions = new Emissions(run);
    this.events = new Events();
    this.phases = make("div");
    this.attempts = make("div");
    this.devices = make("div");
    this.nodes = make("div");
    this.page.replaceChildren(
      this.head,
      this.alarm,
      this.big.place,
      this.rest.place,
      this.plan,
      this.notes,
      this.tools(),
      this.charts,
      make(
        "div",
        { class: "below" },
        this.emissions.element,
        this.phases,
        this.attempts,
        this.devices,
        make("div", { class: "pair" }, this.nodes, this.events.element),
      ),
    );
  }

  tools() {
    const button = (name, label, does) =>
      make("button", { type: "button", "aria-label": label, title: label, onclick: does }, name);
    this.all = button("Whole run", "Whole run", () => this.timeline.whole());
    this.range = make("span", { class: "range", role: "status" });
    this.following = choice("Follow", FOLLOWS, null, (seconds) => this.timeline.follow(seconds));
    this.followed = make(
      "span",
      { class: "together" },
      make("span", { class: "label" }, "Follow the last"),
      this.following,
    );
    this.views = choice("Devices in the charts", VIEWS, settings.devices, (view) => {
      set("devices", view);
      if (this.shown) this.draw();
    });
    this.viewed = make(
      "span",
      { class: "together", hidden: hasChoice(this.run.devices.length) ? null : "" },
      make("span", { class: "label" }, "Devices"),
      this.views,
    );
    return make(
      "div",
      { class: "bar tools", role: "toolbar", "aria-label": "What the charts show" },
      make(
        "div",
        { class: "group" },
        button("‹", "Earlier", () => this.timeline.pan(-0.25)),
        button("−", "Zoom out", () => this.timeline.zoom(2)),
        button("+", "Zoom in", () => this.timeline.zoom(0.5)),
        button("›", "Later", () => this.timeline.pan(0.25)),
      ),
      this.all,
      this.followed,
      this.viewed,
      make("span", { class: "label hint" }, "Drag or ctrl-wheel to zoom, shift-drag to move"),
      this.range,
    );
  }

  fill() {
    const run = this.run;
    this.headline();
    this.big.fill(major(run));
    const planned = run.status === Status.RUNNING && run.plan;
    this.plan.hidden = !planned && !run.budgets.length;
    this.progress.replaceChildren(...(planned ? [way(run)] : []), ...run.budgets.map(budget));
    this.coming.place.hidden = !planned;
    if (planned) this.coming.fill(ahead(run));
    this.remark();
    this.followed.hidden = run.status !== Status.RUNNING;
    this.emissions.fill(run);
    this.events.fill(run);
    const spent = phases(run);
    this.phases.hidden = !spent;
    if (spent) refill(this.phases, spent);
    const tried = attempts(run);
    this.attempts.hidden = !tried;
    if (tried) refill(this.attempts, tried);
    refill(this.devices, devices(run));
    this.tick();
    this.tellRange();
  }

  // What is implausible or assumed of the run, as under its table, and which times were corrected.
  remark() {
    const { rows, plan, corrected } = this.run;
    const said = [plan?.doubt, corrected && `corrected: ${corrected}`, ...rows.flatMap((row) => row.notes)];
    const notes = [...new Set(said.filter(Boolean))];
    if (notes.join() === this.remarked) return;
    this.remarked = notes.join();
    this.notes.hidden = !notes.length;
    refill(this.notes, ...notes.map((note) => make("li", {}, note)));
  }

  headline() {
    const { run } = this,
      count = run.devices.length;
    const power = run.power_now_w === null ? "" : `${si(run.power_now_w, "W")} · `;
    document.title = `${power}${run.name} · carbontrack`;
    const facts = [
      count ? `${count} × ${run.devices[0].name}` : "no device",
      run.meter ?? "no meter",
      `by ${run.user}`,
      run.project ? `project ${run.project}` : null,
    ]
      .filter(Boolean)
      .join(" · ");
    const exit = run.exit_code ? `exit code ${run.exit_code}` : "";
    const key = JSON.stringify([run.status, warnings(run), run.name, facts]);
    if (key === this.headKey) return;
    this.headKey = key;
    refill(
      this.head,
      make(
        "div",
        { class: "title" },
        make("h1", { tabindex: "-1", "data-key": "title" }, run.name),
        status(run.status),
        ...warnings(run).map(badge),
        exit ? make("span", { class: "quiet" }, exit) : null,
      ),
      make(
        "p",
        { class: "facts" },
        `${facts} · started `,
        make("time", { datetime: run.started, title: full(run.started) }, `${when(run.started)} ${zoneOf(new Date(run.started))}`),
      ),
      make("code", { class: "command", title: run.command.join(" ") }, run.command.join(" ")),
    );
  }

  // What grows between two answers.
  tick() {
    if (!this.rest || this.stopped) return;
    this.rest.fill(minor(this.run));
    refill(this.nodes, nodes(this.run, serverNow()));
  }

  moved() {
    this.tellRange();
    this.panels?.scale(this.timeline.shown);
    clearTimeout(this.settling);
    this.settling = setTimeout(() => this.load(), SETTLE_MS);
  }

  tellRange() {
    const { range, last } = this.timeline;
    this.all.disabled = !range && !last;
    this.following.press(range ? "" : last);
    const [low, high] = this.timeline.shown;
    const fine = this.shown ? `, ${stretch(this.shown.level_s)} a point`.replaceAll(" ", "\u00a0").replace("\u00a0", " ") : "";
    const text = `${moment(low)} to ${moment(high)} ${zoneOf(new Date(high * 1000))}${fine}${this.coarser(high)}`;
    if (this.range.textContent !== text) this.range.textContent = text;
  }

  // Up to when only means of longer windows are left, which are drawn as steps.
  coarser(high) {
    const last = new Map();
    for (const { level_s, to_ms } of this.shown?.coarser ?? []) last.set(level_s, Math.max(to_ms, last.get(level_s) ?? 0));
    if (last.size === 0) return "";
    const parts = [...last].sort((a, b) => b[0] - a[0]).map(([level_s, to_ms]) => {
      const until = to_ms / 1000 < high - 1 ? ` until ${moment(to_ms / 1000)}` : "";
      return `${stretch(level_s)}${until}`;
    });
    return `; means of ${parts.join(", of ")}: no finer windows are left`;
  }

  async load() {
    if (this.fetching) {
      this.again = true;
      return;
    }
    this.fetching = true;
    do {
      this.again = false;
      try {
        const px = Math.round(this.charts.clientWidth / 2) || 600;
        const shown = await ask(`${pathOf(this.id)}/series?${this.timeline.query}px=${px}`);
        if (this.stopped) return;
        this.shown = shown;
        this.draw();
        this.tellRange();
      } catch (error) {
        if (!this.stopped && error instanceof Refused) this.complain(error);
      }
    } while (this.again);
    this.fetching = false;
  }

  draw() {
    if (this.panels?.kinds !== kindsOf(this.shown)) {
      this.panels?.destroy();
      this.charts.replaceChildren();
      this.panels = new Panels(this.charts, this.shown, this.timeline);
    }
    this.panels.show(this.shown, this.run, this.timeline.shown);
  }
}
