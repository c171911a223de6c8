// Numbers with SI prefixes; what is not known is a dash, never a zero.

import { Quality } from "./vocabulary.js";

const PREFIXES = [
  [1e12, "T"],
  [1e9, "G"],
  [1e6, "M"],
  [1e3, "k"],
  [1, ""],
  [1e-3, "m"],
  [1e-6, "µ"],
];
const MASSES = [
  [1e9, "kt"],
  [1e6, "t"],
  [1e3, "kg"],
  [1, "g"],
  [1e-3, "mg"],
  [1e-6, "µg"],
];
const unknown = (value) => value === null || value === undefined || !Number.isFinite(value);

// So many digits, without an exponent; a live number keeps its width.
function digits(value, count) {
  const text = value.toPrecision(count);
  return text.includes("e") ? String(Number(text)) : text;
}

function scaled(value, sizes, unit, count) {
  if (unknown(value)) return "–";
  if (value === 0) return `0 ${unit}`.trim();
  const rounded = Number(value.toPrecision(count));
  const [size, prefix] = sizes.find(([least]) => Math.abs(rounded) >= least) ?? sizes[sizes.length - 1];
  return `${digits(value / size, count)} ${prefix}${unit}`.trim();
}

export const si = (value, unit, count = 3) => scaled(value, PREFIXES, unit, count);
export const energy = (kwh, count = 3) => (unknown(kwh) ? "–" : si(kwh * 1000, "Wh", count));
export const carbon = (tonnes, count = 3) => (unknown(tonnes) ? "–" : scaled(tonnes * 1e6, MASSES, "", count));
export const share = (value) => (unknown(value) ? "–" : `${Math.floor(value * 1000) / 10} %`);
export const percent = (value) => (unknown(value) ? "–" : `${Math.round(value * 100)} %`);
export function plain(value, count = 4) {
  if (unknown(value)) return "–";
  const rounded = Number(value.toPrecision(count));
  return Math.abs(rounded) < 1e6 ? String(rounded) : rounded.toExponential().replace("e+", "e");
}

export const whole = (value) => (unknown(value) ? "–" : Math.round(value).toLocaleString("en"));

const LEAST_MONEY = 0.000001;

// Two digits of what is small, cents of what is not.
export function money(value, currency) {
  if (unknown(value)) return "–";
  const unit = currency ?? "";
  if (value > 0 && value < LEAST_MONEY) return `<${LEAST_MONEY.toFixed(6)} ${unit}`.trim();
  const text =
    value === 0
      ? "0"
      : value < 1
        ? digits(value, 2)
        : value.toLocaleString("en", { minimumFractionDigits: 2, maximumFractionDigits: 2 });
  return `${text} ${unit}`.trim();
}

// Numbers of an axis are short: no digits that say nothing.
const short = (text) => text.replace(/(\.\d*?)0+(?= |$)/, "$1").replace(/\.(?= |$)/, "");
export const axis = (format) => (value) => short(format(value));

export function duration(seconds) {
  if (unknown(seconds)) return "–";
  if (seconds < 60) return `${Math.floor(seconds)} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min ${String(Math.floor(seconds % 60)).padStart(2, "0")} s`;
  const hours = Math.floor(minutes / 60);
  return hours < 48
    ? `${hours} h ${String(minutes % 60).padStart(2, "0")} min`
    : `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

export const ago = (seconds) => (seconds < 1 ? "now" : `${duration(seconds)} ago`);

// The time of today, else the date.
export function when(iso) {
  const at = new Date(iso),
    now = new Date();
  if (at.toDateString() === now.toDateString())
    return at.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
  const year = at.getFullYear() === now.getFullYear() ? {} : { year: "numeric" };
  return at.toLocaleDateString([], { month: "short", day: "numeric", ...year });
}

const SECONDS = { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" };
export const full = (iso) => new Date(iso).toLocaleString([], { dateStyle: "medium", timeStyle: "medium" });

// A moment to the second, with the day where that is not today.
export function moment(seconds) {
  const at = new Date(seconds * 1000);
  const day =
    at.toDateString() === new Date().toDateString()
      ? ""
      : `${at.toLocaleDateString([], { month: "short", day: "numeric" })}, `;
  return day + at.toLocaleTimeString([], SECONDS);
}

export function unmeasured(quality) {
  return [Quality.SIMULATED, Quality.ESTIMATE].filter((word) => (quality ?? "").includes(word));
}

// What an event says, with its numbers rounded.
export function eventText(event) {
  if (event.message) return event.message;
  const rounded = (value) =>
    typeof value === "number" ? plain(value) : typeof value === "object" ? JSON.stringify(value) : String(value);
  return Object.entries(event.data)
    .map(([name, value]) => `${name} ${rounded(value)}`)
    .join(", ");
}
