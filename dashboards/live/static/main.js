// Which page is shown, and the theme.

import { showComparison } from "./compare.js";
import { make } from "./dom.js";
import { showRun } from "./run.js";
import { showRuns } from "./runs.js";

const page = document.getElementById("page");
const root = document.documentElement;
let current = null;

async function route() {
  current?.stop();
  current = null;
  document.title = "carbontrack";
  const [, kind, rest] = location.hash.split("/");
  try {
    if (kind === "run" && rest) current = showRun(page, decodeURIComponent(rest));
    else if (kind === "compare" && rest) current = await showComparison(page, rest.split(",").slice(0, 5).map(decodeURIComponent));
    else current = showRuns(page);
  } catch (error) {
    page.replaceChildren(make("p", { class: "trouble" }, error.message));
  }
}

function dress(theme) {
  root.dataset.theme = theme;
  current?.restyle?.();
}

const saved = localStorage.getItem("theme");
const system = matchMedia("(prefers-color-scheme: dark)");
dress(saved ?? (system.matches ? "dark" : "light"));
system.addEventListener("change", () => { if (!localStorage.getItem("theme")) dress(system.matches ? "dark" : "light"); });
document.getElementById("theme").addEventListener("click", () => {
  const theme = root.dataset.theme === "dark" ? "light" : "dark";
  localStorage.setItem("theme", theme);
  dress(theme);
});
window.addEventListener("hashchange", route);
route();
