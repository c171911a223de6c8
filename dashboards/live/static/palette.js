// Colours: of lines, which stand out from the card (3:1) and from each other in both themes, and of maps.

export const LIGHT = ["#0072b2", "#d55e00", "#00865f", "#b5478f", "#9a6a00", "#2a8bc4", "#5b3fa8", "#4f5965"];
export const DARK = ["#4da3e0", "#ff8b4a", "#2fc79b", "#ee94cc", "#e9b949", "#8fd3ff", "#b7a1ff", "#c3ccd6"];
const DASHES = [[], [6, 4], [2, 3], [9, 3, 2, 3]];

const root = document.documentElement;
const system = matchMedia("(prefers-color-scheme: dark)");

export const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);
export const token = (name) => getComputedStyle(root).getPropertyValue(name).trim();

// The look of line number `index`: a colour, and a dash from the ninth on.
export function look(index) {
  const colours = isDark() ? DARK : LIGHT;
  const dash = DASHES[Math.floor(index / colours.length) % DASHES.length];
  return { stroke: colours[index % colours.length], dash };
}

// Cividis: even in brightness, and the same to every kind of colour blindness.
const RAMP = [
  [0, 34, 78],
  [33, 58, 111],
  [76, 85, 107],
  [108, 110, 114],
  [142, 138, 119],
  [181, 168, 111],
  [222, 201, 88],
  [254, 232, 56],
];

// The colour of a share from 0 to 1, as red, green and blue.
export function heat(share) {
  const place = Math.max(0, Math.min(1, share)) * (RAMP.length - 1),
    index = Math.min(Math.floor(place), RAMP.length - 2);
  return RAMP[index].map((one, part) => one + (RAMP[index + 1][part] - one) * (place - index));
}
