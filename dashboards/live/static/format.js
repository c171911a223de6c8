// Numbers with SI prefixes; what is not known is a dash, never a zero.

const PREFIXES = [[1e9, "G"], [1e6, "M"], [1e3, "k"], [1, ""], [1e-3, "m"], [1e-6, "µ"]];
const MASSES = [[1e9, "kt"], [1e6, "t"], [1e3, "kg"], [1, "g"], [1e-3, "mg"], [1e-6, "µg"]];

function scaled(value, sizes, unit) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  if (value === 0) return `0 ${unit}`.trim();
  const [size, prefix] = sizes.find(([least]) => Math.abs(value) >= least) ?? sizes[sizes.length - 1];
  return `${Number((value / size).toPrecision(4))} ${prefix}${unit}`.trim();
}

export const si = (value, unit) => scaled(value, PREFIXES, unit);
export const energy = (kwh) => (kwh === null ? "–" : si(kwh * 1000, "Wh"));
export const carbon = (tonnes) => (tonnes === null ? "–" : scaled(tonnes * 1e6, MASSES, ""));
export const grams = (value) => scaled(value, MASSES, "");
export const share = (value) => (value === null ? "–" : `${Math.floor(value * 1000) / 10} %`);
export const plain = (value, digits = 4) => (value === null || value === undefined ? "–" : String(Number(value.toPrecision(digits))));
export const money = (value, currency) => (value === null ? "–" : `${value < 0.01 ? Number(value.toPrecision(2)) : value.toFixed(2)} ${currency ?? ""}`.trim());

export function duration(seconds) {
  if (seconds < 60) return `${seconds.toFixed(0)} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min ${Math.floor(seconds % 60)} s`;
  const hours = Math.floor(minutes / 60);
  return hours < 48 ? `${hours} h ${minutes % 60} min` : `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

export const clock = (iso) => new Date(iso).toLocaleString();

export function unmeasured(quality) {
  return ["simulated", "estimate"].filter((word) => (quality ?? "").includes(word));
}
