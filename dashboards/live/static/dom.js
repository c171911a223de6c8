// Elements are made from text, never from HTML: a run named <script> is just a name.

export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== null && value !== false) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

export function drawing(tag, attributes, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

export function table(heads, rows) {
  const cell = (tag, value, index) =>
    value instanceof Node && value.tagName === tag.toUpperCase()
      ? value
      : make(tag, { class: heads[index].number ? "number" : null, scope: tag === "th" ? "col" : null }, value ?? "–");
  return make("div", { class: "scroll", tabindex: "0" },
    make("table", {},
      make("thead", {}, make("tr", {}, ...heads.map((head, index) => cell("th", head.label, index)))),
      make("tbody", {}, ...rows.map((row) => make("tr", {}, ...row.map((value, index) => cell("td", value, index)))))));
}
