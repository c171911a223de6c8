// How losses are shown: smoothed, on a logarithmic axis, with or without the few that dwarf the others.

import { make } from "./dom.js";
import { set, settings } from "./settings.js";

const SMOOTHEST = 0.99;

// The controls of a chart of losses; `onChange` is called after each.
export function lossControls(onChange) {
  const value = make("output", {}, said(settings.smooth));
  const slider = make("input", {
    type: "range",
    min: 0,
    max: SMOOTHEST,
    step: 0.01,
    value: settings.smooth,
    "aria-label": "Smoothing",
    oninput: () => {
      set("smooth", Number(slider.value));
      value.textContent = said(settings.smooth);
      onChange();
    },
  });
  const toggle = (name, label, title) => {
    const button = make(
      "button",
      {
        type: "button",
        title,
        "aria-pressed": String(settings[name]),
        onclick: () => {
          set(name, !settings[name]);
          button.setAttribute("aria-pressed", String(settings[name]));
          onChange();
        },
      },
      label,
    );
    return button;
  };
  return make(
    "div",
    { class: "controls", role: "group", "aria-label": "How losses are shown" },
    make("label", {}, "smooth ", slider, value),
    toggle("log", "log", "A logarithmic axis of the loss"),
    toggle("clip", "ignore outliers", "Leave out the few losses that dwarf all others"),
  );
}

const said = (weight) => (weight ? weight.toFixed(2) : "off");

// The exponential moving average that TensorBoard and W&B show: each value weighs `weight` times as
// much as the next. Without `weight` the values themselves.
export function smoothed(values, weight) {
  if (!weight) return values;
  let sum = 0,
    weights = 0;
  return values.map((value) => {
    if (value === null || value === undefined || !Number.isFinite(value)) return value;
    sum = sum * weight + value;
    weights = weights * weight + 1;
    return sum / weights;
  });
}
