// Numbers with SI prefixes; what is not known is a dash, never a zero.

import { EventKind, Quality, Status } from "./vocabulary.js";

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
export const percent = (value) =>
  unknown(value) ? "–" : value > 0 && value < 0.01 ? `${plain(value * 100, 2)} %` : `${Math.round(value * 100)} %`;
export function plain(value, count = 4) {
  if (unknown(value)) return "–";
  const rounded = Number(value.toPrecision(count));
  return Math.abs(rounded) < 1e6 ? String(rounded) : rounded.toExponential().replace("e+", "e");
}

export const whole = (value) => (unknown(value) ? "–" : Math.round(value).toLocaleString("en"));

export const hours = (value) => (value >= 1000 ? whole(value) : plain(value, 3));

// Tokens and other counts, as the commands write them: 512; 492 k; 5.10 B; 2.00 T.
export const count = (value) => (Math.abs(value) < 1000 ? whole(value) : scaled(value, COUNTS, "", 3));
const COUNTS = [
  [1e12, "T"],
  [1e9, "B"],
  [1e6, "M"],
  [1e3, "k"],
  [1, ""],
];

const SYMBOLS = { USD: "$", EUR: "€", GBP: "£" };
const WHOLE_MONEY = 1e5; // from here on without decimals

// As the commands write it, with the currency's own places: $1,204.50, <$0.01, 12.00 CHF.
export function cost(value, currency) {
  if (unknown(value)) return "–";
  const places = placesOf(currency),
    least = 10 ** -places;
  const text = (amount, digits) =>
    amount.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
  const small = value > 0 && value < least / 2;
  const amount = small ? text(least, places) : text(value, value >= WHOLE_MONEY ? 0 : places);
  const symbol = SYMBOLS[currency];
  return `${small ? "<" : ""}${symbol ?? ""}${amount}${symbol || !currency ? "" : ` ${currency}`}`;
}

// How many decimals a currency has.
export function placesOf(currency) {
  try {
    return new Intl.NumberFormat("en", { style: "currency", currency }).resolvedOptions().maximumFractionDigits;
  } catch {
    return 2; // none, or one that has no code
  }
}

// Numbers of an axis are short: no digits that say nothing.
const short = (text) => text.replace(/(\.\d*?)0+(?= |$)/, "$1").replace(/\.(?= |$)/, "");
export const axis = (format) => (value) => short(format(value));

export function duration(seconds) {
  if (unknown(seconds)) return "–";
  if (seconds < 10) return `${plain(seconds, 2)} s`;
  if (seconds < 60) return `${Math.floor(seconds)} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min ${String(Math.floor(seconds % 60)).padStart(2, "0")} s`;
  const hours = Math.floor(minutes / 60);
  return hours < 48
    ? `${hours} h ${String(minutes % 60).padStart(2, "0")} min`
    : `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

// A round length of time, in its largest unit: 30 s, 5 min, 6 h, 2 d.
export function stretch(seconds) {
  const [length, unit] = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]].find(([length]) => seconds % length === 0);
  return `${seconds / length} ${unit}`;
}

export const ago = (seconds) => (seconds < 1 ? "now" : `${duration(Math.floor(seconds))} ago`);

const two = (number) => String(number).padStart(2, "0");
const day = (at) => `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}`;
const minute = (at) => `${day(at)} ${two(at.getHours())}:${two(at.getMinutes())}`;

// Dates as the commands write them, in the reader's time zone.
export const when = (iso) => minute(new Date(iso));
export const full = (iso) => moment(new Date(iso) / 1000, true);
export const date = (ms) => day(new Date(ms));

// A moment to the second.
export function moment(seconds, zone = false) {
  const at = new Date(seconds * 1000);
  return `${minute(at)}:${two(at.getSeconds())}${zone ? ` ${zoneOf(at)}` : ""}`;
}

// UTC, or how far the reader's clock is from it: +02:00.
export function zoneOf(at) {
  const ahead = -at.getTimezoneOffset();
  return ahead === 0
    ? "UTC"
    : `${ahead < 0 ? "−" : "+"}${two(Math.floor(Math.abs(ahead) / 60))}:${two(Math.abs(ahead) % 60)}`;
}

// How an energy came about that was not read here.
export function unmeasured(quality) {
  return [Quality.SIMULATED, Quality.ESTIMATE, Quality.STATED].filter((word) => (quality ?? "").includes(word));
}

// What a run must not be taken for: one that was measured.
export function warnings(run) {
  const words = unmeasured(run.quality),
    nothing = run.energy_kwh === null && run.status !== Status.RUNNING && !words.includes(Quality.STATED);
  return [...words, ...(nothing ? ["nothing measured"] : [])];
}

// What an event says, with its numbers rounded.
export function eventText(event) {
  if (event.message && event.kind !== EventKind.EVAL) return event.message;
  const rounded = (value) =>
    typeof value === "number" ? plain(value) : typeof value === "object" ? JSON.stringify(value) : String(value);
  const values = Object.entries(event.data)
    .filter(([, value]) => value !== null)
    .map(([name, value]) => (event.kind === EventKind.PHASE && name === "name" ? value : `${name} ${rounded(value)}`))
    .join(", ");
  return [event.message, values].filter(Boolean).join(": ");
}
