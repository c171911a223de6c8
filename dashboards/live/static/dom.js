// Elements are made from text, never from HTML: a run named <script> is just a name.

export function make(tag, attributes = {}, ...children) {
  return dress(document.createElement(tag), attributes, children);
}

export function drawing(tag, attributes = {}, ...children) {
  return dress(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function dress(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

// A card with its heading; `note` stands beside it.
export function card(title, note, ...content) {
  return make(
    "section",
    { class: "card", "aria-label": title },
    make("header", {}, make("h2", {}, title), note ? make("span", { class: "quiet" }, note) : null),
    ...content,
  );
}

// Cells are text, nodes, or whole cells; `head` is { label, number, sort, title }.
export function table(name, heads, rows, className = "") {
  const cell = (value, index) => {
    const head = heads[index];
    if (value instanceof Element && ["TD", "TH"].includes(value.tagName)) return value;
    const looks = [head.number ? "number" : "", head.class ?? ""].join(" ").trim();
    return make("td", { class: looks || null, "data-label": head.label || null }, value ?? "–");
  };
  return make(
    "div",
    { class: `scroll ${className}`, tabindex: "0", role: "region", "aria-label": name },
    make(
      "table",
      { "aria-label": name },
      make(
        "thead",
        {},
        make(
          "tr",
          {},
          ...heads.map((head) =>
            make(
              "th",
              {
                class: head.number ? "number" : null,
                scope: "col",
                "aria-sort": head.sort,
                title: head.title,
              },
              head.control ?? head.label,
            ),
          ),
        ),
      ),
      make("tbody", {}, ...rows.map((row) => make("tr", {}, ...row.map(cell)))),
    ),
  );
}

// New content in place of the old, with the focus and the scrolling as they were.
export function refill(place, ...children) {
  const key = place.contains(document.activeElement) ? document.activeElement.dataset.key : undefined;
  const scrolled = [...place.querySelectorAll(".scroll")].map((one) => [one.scrollLeft, one.scrollTop]);
  place.replaceChildren(...children);
  place.querySelectorAll(".scroll").forEach((one, index) => {
    [one.scrollLeft, one.scrollTop] = scrolled[index] ?? [0, 0];
  });
  if (key) [...place.querySelectorAll("[data-key]")].find((one) => one.dataset.key === key)?.focus();
}

// Buttons of which one is chosen: `choices` are [value, label].
export function choice(name, choices, chosen, onChoose) {
  const buttons = choices.map(([value, label]) =>
    make(
      "button",
      {
        type: "button",
        "aria-pressed": String(value === chosen),
        "data-key": `${name} ${value}`,
        onclick: () => {
          press(value);
          onChoose(value);
        },
      },
      label,
    ),
  );
  const press = (value) =>
    buttons.forEach((button, index) => button.setAttribute("aria-pressed", String(choices[index][0] === value)));
  const group = make("div", { class: "group", role: "group", "aria-label": name }, ...buttons);
  return Object.assign(group, { press });
}

export function swatch({ stroke, dash }) {
  return drawing(
    "svg",
    { class: "swatch", viewBox: "0 0 24 10", "aria-hidden": "true" },
    drawing("line", {
      x1: 1,
      y1: 5,
      x2: 23,
      y2: 5,
      stroke,
      "stroke-width": 3,
      "stroke-dasharray": dash?.length ? dash.join() : null,
    }),
  );
}

export const badge = (word) => make("span", { class: "badge" }, word);
export const status = (word) => make("span", { class: `status ${word}` }, word);
