// A range of dates to choose, in the reader's time zone.

import { make } from "./dom.js";
import { date } from "./format.js";

const BETWEEN = "between";
const TO = "..";

// value, label, and [first day, day after the last] from the first moment of today
const RANGES = [
  ["", "any time", () => [null, null]],
  ["7d", "the last 7 days", (today) => [daysBefore(today, 6), null]],
  ["30d", "the last 30 days", (today) => [daysBefore(today, 29), null]],
  ["month", "this month", (today) => [new Date(today.getFullYear(), today.getMonth(), 1), null]],
  [
    "last-month",
    "last month",
    (today) => [
      new Date(today.getFullYear(), today.getMonth() - 1, 1),
      new Date(today.getFullYear(), today.getMonth(), 1),
    ],
  ],
  ["year", "this year", (today) => [new Date(today.getFullYear(), 0, 1), null]],
  [BETWEEN, "between two dates", null],
];

export class Span {
  // `chosen` is the `value` of another one: a range by its name, or two dates.
  constructor(onChange, chosen) {
    this.choice = make(
      "select",
      { "aria-label": "When", onchange: () => this.choose(onChange) },
      ...RANGES.map(([value, label]) => make("option", { value }, label)),
    );
    const [first, last] = chosen.includes(TO) ? chosen.split(TO) : ["", ""];
    const day = (label, value) => make("input", { type: "date", "aria-label": label, onchange: onChange, value });
    this.first = day("First day", first);
    this.last = day("Last day", last);
    this.days = make("span", { class: "together" }, this.first, "to", this.last);
    const name = first || last ? BETWEEN : chosen;
    this.choice.value = RANGES.some(([value]) => value === name) ? name : "";
    this.days.hidden = this.choice.value !== BETWEEN;
    this.element = make("span", { class: "together" }, this.choice, this.days);
  }

  choose(onChange) {
    this.days.hidden = this.choice.value !== BETWEEN;
    if (!this.days.hidden && !this.first.value) {
      this.first.value = date(daysBefore(new Date(), 29));
      this.last.value ||= date(new Date());
    }
    onChange();
  }

  get value() {
    return this.choice.value === BETWEEN ? this.first.value + TO + this.last.value : this.choice.value;
  }

  get range() {
    if (this.choice.value === BETWEEN) return [dayOf(this.first.value, 0), dayOf(this.last.value, 1)];
    const now = new Date();
    const [, , of] = RANGES.find(([value]) => value === this.choice.value);
    return of(new Date(now.getFullYear(), now.getMonth(), now.getDate())).map((at) => (at ? at.getTime() : null));
  }

  get query() {
    const [since, until] = this.range;
    return { ...(since === null ? {} : { since }), ...(until === null ? {} : { until }) };
  }
}

// By the calendar: a day in which the clocks change has not 24 hours.
const daysBefore = (day, count) => new Date(day.getFullYear(), day.getMonth(), day.getDate() - count);

// The first moment of a day, or of so many after it; null if none was given.
function dayOf(text, after) {
  if (!text) return null;
  const [year, month, day] = text.split("-").map(Number);
  return new Date(year, month - 1, day + after).getTime();
}
