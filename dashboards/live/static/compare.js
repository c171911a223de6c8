// Up to five runs: their losses over what they took, and how they differ from the first.

import { ask, link, linkTrouble, Refused, run as pathOf } from "./api.js";
import { Chart } from "./charts.js";
import { badge, card, choice, make, refill, status, swatch, table } from "./dom.js";
import { carbon, cost, count, duration, energy, hours, placesOf, plain, si, warnings, whole } from "./format.js";
import { lossControls, smoothed } from "./loss.js";
import { look } from "./palette.js";
import { settings } from "./settings.js";
import { measured } from "./tiles.js";
import uPlot from "./vendor/uPlot.esm.js";
import { Status } from "./vocabulary.js";

const MAX_RUNS = 5;
const REFRESH_MS = 2000;
const HEIGHT = 440;
const J_PER_KWH = 3.6e6;

// value: the label, what it is called on the axis, the column of the answer, how it is written; of
// money see `moneyAxis`
const AXES = [
  ["steps", "step", (progress) => progress.step, (value) => whole(value)],
  ["tokens", "tokens", (progress) => progress.tokens, (value) => count(value)],
  [
    "time",
    "time since the start",
    (progress, detail) => progress.time_ms.map((ms) => (ms - detail.started_ms) / 1000),
    duration,
  ],
  ["energy", "facility energy", (progress) => progress.facility_kwh, (value) => energy(value)],
  ["CO₂e", "CO₂e", (progress) => progress.tco2e, (value) => carbon(value)],
  ["cost", "cost", (progress) => progress.cost, null],
];
const FEW_COINS = 5,
  DECADES = 12;
const RAISED = "⁰¹²³⁴⁵⁶⁷⁸⁹";

// An axis of money, whose ticks are whole coins. Small coins have no prefixes: what is less than a
// few of them is in powers of ten.
export function moneyAxis(largest, currency) {
  const places = placesOf(currency),
    xFormat = (value) => cost(value, currency);
  if (!(largest > 0) || largest >= FEW_COINS * 10 ** -places) {
    const powers = [...Array(DECADES).keys()].map((power) => power - places),
      incrs = powers.flatMap((power) => [1, 2, 5].map((step) => Number(`${step}e${power}`)));
    return { xLabel: "cost", xFormat, xTicks: { incrs, values: (_, ticks) => ticks.map(xFormat) } };
  }
  const power = -3 * Math.floor(Math.log10(largest) / 3),
    raised = [...String(power)].map((digit) => RAISED[digit]).join("");
  return {
    xLabel: `cost (10⁻${raised} ${currency})`,
    xFormat,
    xTicks: { values: (_, ticks) => ticks.map((value) => plain(value * 10 ** power, 3)) },
  };
}

export function showComparison(page, ids) {
  return new Comparison(page, ids.slice(0, MAX_RUNS));
}

class Comparison {
  constructor(page, ids) {
    this.stopped = false;
    this.axis = "energy";
    this.known = ids.map((id) => ({ id, detail: null, progress: null, error: null }));
    this.said = make("p", { class: "alarm", role: "alert" });
    this.chartPlace = make("div", { class: "charts" });
    this.tablePlace = make("div");
    page.replaceChildren(
      make("h1", { tabindex: "-1" }, "Comparison"),
      make(
        "div",
        { class: "bar" },
        make("span", { class: "label" }, "Loss over"),
        choice(
          "Loss over",
          AXES.map(([name]) => [name, name]),
          this.axis,
          (axis) => {
            this.axis = axis;
            this.draw(true);
          },
        ),
      ),
      this.said,
      this.chartPlace,
      make("div", { class: "below" }, this.tablePlace),
    );
    this.refresh();
  }

  stop() {
    this.stopped = true;
    clearTimeout(this.timer);
    this.chart?.destroy();
    link("");
  }

  restyle() {
    this.draw(true);
  }

  // A run that has ended is asked for once; an unknown one again, until it is known.
  async refresh() {
    const asked = this.known.filter(
      (one) => !one.detail || one.detail.status === Status.RUNNING || one.detail.status === Status.INTERRUPTED,
    );
    await Promise.all(
      asked.map(async (one) => {
        try {
          const [detail, progress] = await Promise.all([
            ask(pathOf(one.id)),
            ask(`${pathOf(one.id)}/progress?px=1200`),
          ]);
          Object.assign(one, { detail, progress, error: null });
        } catch (error) {
          one.error = error;
        }
      }),
    );
    if (this.stopped) return;
    const lost = this.known.find((one) => one.error && !(one.error instanceof Refused));
    const going = this.known.some((one) => one.detail?.status === Status.RUNNING);
    if (lost) linkTrouble(lost.error);
    else link(going ? "live" : "");
    const unknown = this.known.filter((one) => one.error instanceof Refused);
    this.said.textContent = unknown.map((one) => one.error.message).join(" ");
    if (asked.length) this.draw();
    this.timer = setTimeout(() => this.refresh(), REFRESH_MS);
  }

  draw(again = false) {
    const runs = this.known
      .map((one, index) => ({ ...one, look: look(index), place: index }))
      .filter((one) => one.detail);
    if (!runs.length) return;
    this.drawChart(runs, again);
    refill(this.tablePlace, card("What each run used", "differences to the first", compared(runs)));
  }

  drawChart(runs, again) {
    const [, name, column, write] = AXES.find(([name]) => name === this.axis);
    const currencies = [...new Set(runs.map(currencyOf).filter(Boolean))],
      apart = !write && currencies.length > 1;
    const lines = runs.map(({ detail, progress }) => {
      const xs = apart ? [] : column(progress, detail),
        at = xs.map((_, index) => index).filter((index) => xs[index] !== null);
      return [
        at.map((index) => xs[index]),
        smoothed(
          at.map((index) => progress.loss[index]),
          settings.smooth,
        ),
      ];
    });
    const axis = write ? { xLabel: name, xFormat: write } : moneyAxis(largestOf(lines), currencies[0]);
    const key = [axis.xLabel, write ? "" : currencies[0], ...runs.map((one) => one.id)].join();
    if (again || key !== this.key) {
      this.key = key;
      this.chart?.destroy();
      this.chartPlace.replaceChildren();
      this.chart = new Chart(this.chartPlace, {
        title: "Training loss",
        wide: true,
        note: `over ${name}`,
        time: false,
        fromZero: false,
        clip: settings.clip,
        log: settings.log,
        controls: lossControls(() => {
          this.chart.change({ log: settings.log, clip: settings.clip });
          this.draw();
        }),
        height: HEIGHT,
        ...axis,
        format: (value) => plain(value),
        series: runs.map((one) => ({
          label: one.detail.name,
          ...one.look,
          dash: DASHES[one.place],
          width: 1.8,
          spanGaps: true,
        })),
      });
    }
    const some = lines.some(([xs]) => xs.length);
    this.chart.show(
      some ? uPlot.join(lines) : [[], ...lines.map(() => [])],
      null,
      apart ? `Costs in ${currencies.join(" and ")} have no common axis.` : `No run has a loss over ${name}.`,
    );
  }
}

const largestOf = (lines) => lines.flatMap(([xs]) => xs).reduce((a, b) => Math.max(a, b), 0);

// Of a run's cost; null without one.
const currencyOf = ({ detail }) => (measured(detail).cost === null ? null : measured(detail).currency);

const DASHES = [[], [8, 4], [3, 3], [10, 3, 3, 3], [14, 5]];

// The label, the value, how it is written, and the unit that two must share to differ by a part.
const COLUMNS = [
  ["duration", ({ detail }) => detail.duration_s, duration],
  ["tokens", ({ detail }) => detail.tokens, (value) => count(value)],
  ["GPU hours", ({ detail }) => measured(detail).gpu_hours, (value) => hours(value)],
  ["device energy", ({ detail }) => detail.energy_kwh, (value) => energy(value)],
  ["facility energy", ({ detail }) => measured(detail).facility_kwh, (value) => energy(value)],
  ["device energy of a token", perToken, (value) => si(value, "J")],
  ["CO₂e", ({ detail }) => measured(detail).tco2e, (value) => carbon(value)],
  ["cost", ({ detail }) => measured(detail).cost, (value, one) => cost(value, currencyOf(one)), currencyOf],
  ["final loss", ({ detail }) => detail.final_loss, (value) => plain(value)],
];

function perToken({ detail }) {
  return detail.tokens && detail.energy_kwh !== null ? (detail.energy_kwh * J_PER_KWH) / detail.tokens : null;
}

function compared(runs) {
  const heads = [{ label: "run" }, ...COLUMNS.map(([label]) => ({ label, number: true }))];
  return table(
    "What each run used",
    heads,
    runs.map((one, index) => [
      make(
        "th",
        { scope: "row" },
        swatch({ ...one.look, dash: DASHES[one.place] }),
        " ",
        make("a", { href: `#/run/${one.detail.id}`, "data-key": `open ${one.detail.id}` }, one.detail.name),
        " ",
        ...warnings(one.detail).map(badge),
        one.detail.status === Status.COMPLETED ? null : status(one.detail.status),
      ),
      ...COLUMNS.map(([label, of, write, unit = () => null]) =>
        make(
          "td",
          { class: "number", "data-label": label },
          write(of(one), one),
          index && unit(one) === unit(runs[0])
            ? make("span", { class: "more" }, difference(of(one), of(runs[0])))
            : null,
        ),
      ),
    ]),
    "compared",
  );
}

function difference(value, first) {
  if (!Number.isFinite(value) || !Number.isFinite(first) || !first) return "";
  const part = (value / first - 1) * 100;
  if (Math.abs(part) < 0.05) return "same";
  if (value / first >= 10) return `×${plain(value / first, 2)}`;
  const text = Math.abs(part) < 10 ? Math.abs(part).toFixed(1) : Math.abs(part).toFixed(0);
  return `${part > 0 ? "+" : "−"}${text} %`;
}
