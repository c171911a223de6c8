// How a run's numbers came about, each factor with its source: `carbontrack explain` as a dialog.

import { ask, run as pathOf } from "./api.js";
import { badge, make, table } from "./dom.js";
import { plain } from "./format.js";

const DIGITS = 6;

export async function openExplanation(run, method) {
  const title = make("h2", { id: "explained", tabindex: "-1" }, `How the numbers of ${run.name} came about`);
  const place = make("div", {}, make("p", { class: "quiet" }, "Loading…"));
  const dialog = make(
    "dialog",
    { "aria-labelledby": "explained", class: "explain" },
    make("div", { class: "head" }, title, make("button", { type: "button", onclick: () => dialog.close() }, "Close")),
    place,
  );
  dialog.addEventListener("close", () => dialog.remove());
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close(); // beside it
  });
  document.body.append(dialog);
  dialog.showModal();
  title.focus();
  try {
    place.replaceChildren(...explained(await ask(`${pathOf(run.id)}/explain?method=${method}`)));
  } catch (error) {
    place.replaceChildren(make("p", { class: "alarm", role: "alert" }, error.message));
  }
}

function explained({ method, steps, cell, notes, command }) {
  const rows = steps.map(({ name, value, unit, how }) => {
    const assumed = how.startsWith("assumed: ");
    return [
      make("th", { scope: "row" }, name),
      value === null ? "–" : `${plain(value, DIGITS)} ${unit}`.trim(),
      make(
        "td",
        { class: "text", "data-label": "how" },
        ...(assumed ? [badge("assumed"), " "] : []),
        assumed ? how.slice("assumed: ".length) : how,
      ),
    ];
  });
  return [
    make("p", { class: "quiet" }, `Method ${method}; CO₂e ${cell}. The same: `, make("code", {}, command)),
    table("Derivation", [{ label: "step" }, { label: "value", number: true }, { label: "how, and from where" }], rows, "steps"),
    make("ul", { class: "notes", "aria-label": "Notes" }, ...notes.map((note) => make("li", {}, note))),
  ];
}
