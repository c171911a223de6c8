// A map of devices on a canvas: a cell each, side by side by node, so that 16,384 fit a screen.

import { make, refill } from "./dom.js";
import { heat, isDark, token } from "./palette.js";

const CELLS = [34, 26, 20, 16, 13, 11, 9, 8, 7, 6, 5, 4]; // CSS pixels, the largest that fits
const [LEAST, PART] = [320, 0.62]; // height that it may take: pixels, and share of the window
const IN_A_ROW = 8; // cells of a node
const [TITLE, NAMED, LETTER] = [22, 20, 6.6]; // height of a title; cells from which on nodes are named; width of a letter
const LEVELS = 64;
const DARKEST = 0.1; // on a dark card the least is no darker than this share of the colours

export class FleetMap {
  // `describe` gives { words, href, run } of a device.
  constructor(describe) {
    this.describe = describe;
    this.chosen = null;
    this.canvas = make("canvas", { role: "img" });
    this.room = make("div", { class: "cells", tabindex: "0", role: "group", "aria-label": "Devices, one by one" }, this.canvas);
    this.scale = make("span", { class: "scale" });
    this.legend = make(
      "div",
      { class: "legend-row quiet small" },
      this.scale,
      make("span", {}, make("i", { class: "key silent", "aria-hidden": "true" }), "not heard of lately"),
      make("span", {}, make("i", { class: "key unknown", "aria-hidden": "true" }), "unknown"),
    );
    this.said = make("p", { class: "readout", "aria-live": "polite" });
    this.element = make("div", { class: "fleetmap" }, this.legend, this.room, this.said);
    this.room.addEventListener("pointermove", (event) => event.pointerType === "mouse" && this.point(event));
    this.room.addEventListener("pointerdown", (event) => this.point(event));
    this.room.addEventListener("keydown", (event) => this.key(event));
    this.watcher = new ResizeObserver(() => this.shown && this.layOut());
    this.watcher.observe(this.room);
  }

  stop() {
    this.watcher.disconnect();
  }

  // `groups` are { title, devices }; `hosts` has the node of each device, `value` gives a number or null.
  show(shown) {
    this.shown = shown;
    this.canvas.setAttribute("aria-label", shown.words);
    refill(this.scale, shown.format(0), make("i", { "aria-hidden": "true" }), shown.format(shown.high));
    this.layOut();
  }

  layOut() {
    const width = this.room.clientWidth;
    if (!width) return;
    const most = Math.max(LEAST, innerHeight * PART);
    const nodes = this.shown.groups.map(({ title, devices }) => ({ title, nodes: byNode(devices, this.shown.hosts) }));
    for (const cell of CELLS) {
      this.layout = place(nodes, width, cell, this.shown.hostNames);
      if (this.layout.height <= most) break;
    }
    this.order = this.layout.blocks.flatMap((block) => block.devices);
    this.draw();
    this.say();
  }

  draw() {
    if (!this.layout) return;
    const { blocks, titles, height, cell, gap } = this.layout,
      width = this.room.clientWidth,
      dots = devicePixelRatio || 1;
    this.canvas.width = Math.round(width * dots);
    this.canvas.height = Math.round(height * dots);
    this.canvas.style.height = `${height}px`;
    const context = this.canvas.getContext("2d");
    context.scale(dots, dots);
    const least = isDark() ? DARKEST : 0;
    const colours = Array.from(
      { length: LEVELS + 1 },
      (_, level) => `rgb(${heat(least + (1 - least) * (level / LEVELS)).map(Math.round)})`,
    );
    const [ink, soft, edge, warn] = ["--ink", "--soft", "--edge", "--warn"].map(token);
    const { value, stale, high, hostNames } = this.shown;
    const side = cell - gap;
    context.textBaseline = "middle";
    for (const { text, x, y } of titles) {
      context.font = "600 13px system-ui, sans-serif";
      context.fillStyle = ink;
      context.fillText(text, x, y);
    }
    for (const block of blocks) {
      if (block.name) {
        context.font = "12px system-ui, sans-serif";
        context.fillStyle = soft;
        context.fillText(fitting(hostNames[block.host], block.width), block.x, block.y - 9);
      }
      block.devices.forEach((at, index) => {
        const [x, y] = corner(block, index, cell);
        const now = value(at);
        if (stale(at)) {
          context.strokeStyle = warn;
          context.lineWidth = side > 6 ? 1.5 : 1;
          context.beginPath();
          context.rect(x + 0.5, y + 0.5, side - 1, side - 1);
          context.moveTo(x + 0.5, y + side - 0.5);
          context.lineTo(x + side - 0.5, y + 0.5);
          context.stroke();
        } else if (now === null) {
          context.strokeStyle = edge;
          context.lineWidth = 1;
          context.strokeRect(x + 0.5, y + 0.5, side - 1, side - 1);
        } else {
          context.fillStyle = colours[Math.round(Math.max(0, Math.min(1, now / high)) * LEVELS)];
          context.fillRect(x, y, side, side);
        }
      });
    }
    this.mark(context, side);
  }

  mark(context, side) {
    const found = this.chosen === null ? null : this.find(this.chosen);
    if (!found) return;
    const [x, y] = corner(found.block, found.index, this.layout.cell);
    context.lineWidth = 2;
    context.strokeStyle = isDark() ? "#fff" : "#000";
    context.strokeRect(x - 1, y - 1, side + 2, side + 2);
  }

  find(device) {
    for (const block of this.layout.blocks) {
      const index = block.devices.indexOf(device);
      if (index >= 0) return { block, index };
    }
    return null;
  }

  point(event) {
    const box = this.canvas.getBoundingClientRect();
    const at = this.under(event.clientX - box.left, event.clientY - box.top);
    if (at !== null) this.choose(at);
  }

  under(x, y) {
    const { blocks, cell } = this.layout;
    const block = blocks.find((one) => x >= one.x && x < one.x + one.width && y >= one.y && y < one.y + one.height);
    if (!block) return null;
    const index = Math.floor((y - block.y) / cell) * IN_A_ROW + Math.floor((x - block.x) / cell);
    return block.devices[index] ?? null;
  }

  choose(at) {
    if (at === this.chosen) return;
    this.chosen = at;
    this.draw();
    this.say();
  }

  say() {
    if (this.chosen !== null && !this.find(this.chosen)) this.chosen = null;
    if (this.chosen === null) return refill(this.said, "Point at a device, or go to it with the arrow keys.");
    const { words, href, run } = this.describe(this.chosen);
    return refill(this.said, `${words.join(" · ")} `, make("a", { href, "aria-label": `Open the run ${run}` }, "open its run"));
  }

  key(event) {
    const steps = { ArrowLeft: -1, ArrowRight: 1 };
    const { order } = this;
    if (!order?.length) return;
    const place = this.chosen === null ? -1 : order.indexOf(this.chosen);
    let next = null;
    if (event.key in steps) next = place + steps[event.key];
    else if (event.key === "ArrowDown") next = this.beside(1);
    else if (event.key === "ArrowUp") next = this.beside(-1);
    else if (event.key === "Home") next = 0;
    else if (event.key === "End") next = order.length - 1;
    else if (event.key === "Enter" && this.chosen !== null) location.hash = this.describe(this.chosen).href;
    else return;
    event.preventDefault();
    if (next !== null) this.choose(order[Math.max(0, Math.min(order.length - 1, next))]);
  }

  // The place in order of the device above or below the chosen one; the first of all without one.
  beside(step) {
    const found = this.chosen === null ? null : this.find(this.chosen);
    if (!found) return 0;
    const { cell, blocks } = this.layout;
    const [x, y] = corner(found.block, found.index, cell);
    const rows = [...new Set(blocks.flatMap((one) => one.devices.map((_, at) => corner(one, at, cell)[1])))].sort((a, b) => a - b);
    const row = rows[rows.indexOf(y) + step];
    if (row === undefined) return this.order.indexOf(this.chosen);
    let best = null;
    for (const block of blocks)
      block.devices.forEach((at, index) => {
        const [left, top] = corner(block, index, cell);
        if (top === row && (!best || Math.abs(left - x) < best.off)) best = { off: Math.abs(left - x), at };
      });
    return this.order.indexOf(best.at);
  }
}

const corner = (block, index, cell) => [
  block.x + (index % IN_A_ROW) * cell,
  block.y + Math.floor(index / IN_A_ROW) * cell,
];

// The devices of each node, in order.
function byNode(devices, hosts) {
  const nodes = new Map();
  for (const at of devices) {
    if (!nodes.has(hosts[at])) nodes.set(hosts[at], []);
    nodes.get(hosts[at]).push(at);
  }
  return nodes;
}

// Where each node stands with cells of this size, and how high all is.
function place(groups, width, cell, hostNames) {
  const gap = cell > 12 ? 2 : 1,
    between = Math.max(3, Math.round(cell * 0.6)),
    named = cell >= NAMED,
    head = named ? 18 : 0;
  const blocks = [],
    titles = [];
  let y = 0;
  for (const { title, nodes } of groups) {
    if (title) {
      titles.push({ text: fitting(title, width), x: 0, y: y + TITLE / 2 });
      y += TITLE;
    }
    let x = 0,
      tallest = 0;
    for (const [host, devices] of nodes) {
      const columns = Math.min(IN_A_ROW, devices.length),
        rows = Math.ceil(devices.length / IN_A_ROW);
      const needed = named ? Math.min(hostNames[host].length * LETTER, columns < 4 ? 90 : 0) : 0;
      const own = columns * cell,
        across = Math.max(own, needed);
      if (x > 0 && x + across > width) {
        x = 0;
        y += tallest + between;
        tallest = 0;
      }
      const high = head + rows * cell;
      blocks.push({ host, devices, x, y: y + head, width: Math.max(own, across), height: rows * cell, name: named });
      x += across + between;
      tallest = Math.max(tallest, high);
    }
    y += tallest + between + (title ? 6 : 0);
  }
  return { blocks, titles, height: Math.max(1, y), cell, gap };
}

function fitting(text, width) {
  const letters = Math.floor(width / LETTER);
  return text.length <= letters ? text : `${text.slice(0, Math.max(1, letters - 1))}…`;
}
