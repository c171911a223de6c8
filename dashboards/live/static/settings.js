// What a reader chose to see, remembered in this browser.

const DEFAULTS = { smooth: 0, log: false, clip: true, devices: "summary" };
const KEY = "charts";

function saved() {
  try {
    return JSON.parse(localStorage.getItem(KEY)) ?? {};
  } catch {
    return {};
  }
}

export const settings = { ...DEFAULTS, ...saved() };

export function set(name, value) {
  settings[name] = value;
  localStorage.setItem(KEY, JSON.stringify(settings));
}
