// Events as dashed lines through a chart, with their words in a strip above it.

import { token } from "./palette.js";

export const STRIP = 18; // CSS pixels above the plot
const ALARMING = new Set(["device-lost", "budget", "gap", "counter-reset", "sensor-doubted", "preempted"]);

export function drawMarks(plot, marks) {
  const { ctx, bbox } = plot,
    ratio = devicePixelRatio;
  const soft = token("--soft"),
    bad = token("--bad");
  ctx.save();
  ctx.lineWidth = ratio;
  ctx.font = `${11 * ratio}px system-ui, sans-serif`;
  ctx.textBaseline = "bottom";
  ctx.textAlign = "left";
  let free = -Infinity;
  for (const { time, word } of marks) {
    const x = Math.round(plot.valToPos(time, "x", true));
    if (x < bbox.left || x > bbox.left + bbox.width) continue;
    ctx.strokeStyle = ctx.fillStyle = ALARMING.has(word) ? bad : soft;
    ctx.globalAlpha = 0.55;
    ctx.setLineDash([3 * ratio, 4 * ratio]);
    ctx.beginPath();
    ctx.moveTo(x, bbox.top - 3 * ratio);
    ctx.lineTo(x, bbox.top + bbox.height);
    ctx.stroke();
    ctx.globalAlpha = 1;
    const width = ctx.measureText(word).width;
    const left = Math.min(x - width / 2, bbox.left + bbox.width - width);
    if (left < free) continue; // no word over another
    ctx.fillText(word, left, bbox.top - 4 * ratio);
    free = left + width + 8 * ratio;
  }
  ctx.restore();
}
