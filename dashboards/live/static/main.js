// Which page is shown, and the theme.

import { showComparison } from "./compare.js";
import { showFleet } from "./fleet.js";
import { isDark } from "./palette.js";
import { showRun } from "./run.js";
import { showRuns } from "./runs.js";

const page = document.getElementById("page");
const root = document.documentElement;
let current = null;

function route() {
  current?.stop();
  for (const one of document.querySelectorAll(".top nav a")) {
    const here = one.hash === (location.hash.startsWith("#/fleet") ? "#/fleet" : "#/");
    if (here) one.setAttribute("aria-current", "page");
    else one.removeAttribute("aria-current");
  }
  document.title = "carbontrack";
  const [path, query] = location.hash.split("?");
  const [, kind, rest] = path.split("/");
  if (kind === "run" && rest) current = showRun(page, decodeURIComponent(rest));
  else if (kind === "compare" && rest) current = showComparison(page, rest.split(",").map(decodeURIComponent));
  else if (kind === "fleet") current = showFleet(page, new URLSearchParams(query));
  else current = showRuns(page, new URLSearchParams(query));
}

// A page that was gone to is read from its heading on.
function go() {
  route();
  scrollTo(0, 0);
  page.querySelector("h1")?.focus({ preventScroll: true });
}

document.getElementById("skip").addEventListener("click", (event) => {
  event.preventDefault(); // the address names the page that is shown
  page.focus();
});
document.getElementById("theme").addEventListener("click", () => {
  root.dataset.theme = isDark() ? "light" : "dark";
  localStorage.setItem("theme", root.dataset.theme);
  current?.restyle?.();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => current?.restyle?.());
addEventListener("hashchange", go);
route();
