// Elements are made from text, never from HTML: a run named <script> is just a name.

export function make(tag, attributes = {}, ...children) {
  return dress(document.createElement(tag), attributes, children);
}

export function drawing(tag, attributes = {}, ...children) {
  return dress(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function dress(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element[name] = value; // a property, which `refill` can hand over
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

// Rows are cells, or { key, cells } where a row must stay itself in another order. Cells are text,
// nodes, or whole cells; `head` is { label, number, sort, title }.
export function table(name, heads, rows, className = "") {
  const cell = (value, index) => {
    const head = heads[index];
    if (value instanceof Element && ["TD", "TH"].includes(value.tagName)) return value;
    const looks = [head.number ? "number" : "", head.class ?? ""].join(" ").trim();
    return make("td", { class: looks || null, "data-label": head.label || null }, value ?? "–");
  };
  return make(
    "div",
    { class: `scroll ${className}`, tabindex: "0", role: "group", "aria-label": name },
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
      make(
        "tbody",
        {},
        ...rows.map((row) => make("tr", { "data-row": row.key }, ...(row.cells ?? row).map(cell))),
      ),
    ),
  );
}

const HANDLERS = ["onclick", "onchange", "oninput", "onmouseenter", "onmouseleave"];
const isAlike = (one, other) => one.nodeType === other.nodeType && one.nodeName === other.nodeName;

// New content in place of the old. What is alike stays the same element and only its differences are
// written, so that selected text, the focus and the scrolling stay as they were.
export function refill(place, ...children) {
  const focused = place.contains(document.activeElement) ? document.activeElement : null;
  const fresh = children.filter((child) => child !== null && child !== undefined);
  putChildren(
    place,
    fresh.map((child) => (child instanceof Node ? child : document.createTextNode(child))),
  );
  if (focused?.isConnected && document.activeElement !== focused) focused.focus({ preventScroll: true });
}

function putChildren(place, fresh) {
  const rows = new Map([...place.children].map((child) => [child.dataset.row, child]));
  let at = place.firstChild;
  for (const child of fresh) {
    const key = child.dataset?.row;
    const same = child.parentNode === place ? child : key ? rows.get(key) : at?.dataset?.row ? null : at;
    if (!same || !isAlike(same, child)) {
      place.insertBefore(child, at);
      continue;
    }
    if (same === at) at = at.nextSibling;
    else place.insertBefore(same, at);
    if (same !== child) become(same, child);
  }
  while (at) {
    const next = at.nextSibling;
    at.remove();
    at = next;
  }
}

function become(old, fresh) {
  if (old.nodeType === Node.TEXT_NODE) {
    if (old.data !== fresh.data) old.data = fresh.data;
    return;
  }
  for (const { name } of [...old.attributes]) if (!fresh.hasAttribute(name)) old.removeAttribute(name);
  for (const { name, value } of fresh.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  for (const name of HANDLERS) if (old[name] || fresh[name]) old[name] = fresh[name];
  if (old instanceof HTMLInputElement) old.checked = fresh.checked;
  putChildren(old, [...fresh.childNodes]);
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

// A list to choose one of: `choices` are [value, label].
export function select(name, choices, chosen, onChoose) {
  const options = choices.map(([value, label]) =>
    make("option", { value, selected: value === chosen ? "" : null }, label),
  );
  const list = make("select", { "aria-label": name, onchange: () => onChoose(list.value) }, ...options);
  return list;
}

export const badge = (word) => make("span", { class: "badge" }, word);
export const status = (word) => make("span", { class: `status ${word}` }, word);
