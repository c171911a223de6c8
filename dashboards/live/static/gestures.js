// Zoom and pan of a chart by keys, wheel, shift-drag and touch. Drawing a range is uPlot's own.

const STEP = 0.25,
  NEARER = 0.5,
  WHEEL = 1.25;

// `plotOf` gives the plot that is in the place now.
export function listen(place, plotOf, timeline) {
  keys(place, timeline);
  wheel(place, plotOf, timeline);
  touch(place, plotOf, timeline);
}

function keys(place, timeline) {
  const does = {
    ArrowLeft: () => timeline.pan(-STEP),
    ArrowRight: () => timeline.pan(STEP),
    "+": () => timeline.zoom(NEARER),
    "=": () => timeline.zoom(NEARER),
    "-": () => timeline.zoom(1 / NEARER),
    _: () => timeline.zoom(1 / NEARER),
    0: () => timeline.whole(),
    Home: () => timeline.whole(),
  };
  place.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || !does[event.key]) return;
    event.preventDefault();
    does[event.key]();
  });
}

// A chart that has not the focus leaves the plain wheel to the page.
function wheel(place, plotOf, timeline) {
  place.addEventListener(
    "wheel",
    (event) => {
      const plot = plotOf();
      if (!plot.over.contains(event.target)) return;
      const width = plot.over.clientWidth;
      const sideways = Math.abs(event.deltaX) > Math.abs(event.deltaY);
      const meant = event.ctrlKey || event.metaKey || place.contains(document.activeElement);
      if (!sideways && !event.shiftKey && !meant) return;
      event.preventDefault();
      if (sideways || event.shiftKey) timeline.pan((sideways ? event.deltaX : event.deltaY) / width);
      else timeline.zoom(event.deltaY > 0 ? WHEEL : 1 / WHEEL, plot.posToVal(event.clientX - left(plot), "x"));
    },
    { passive: false },
  );
}

// For uPlot's cursor: with shift a drag moves what is shown, without it chooses a range.
export function shiftDrag(timeline) {
  return (plot, target, choose) => (event) => {
    if (event.button !== 0 || !event.shiftKey) return choose(event);
    event.preventDefault();
    const [low, high] = timeline.shown,
      perPixel = (high - low) / plot.over.clientWidth,
      x = event.clientX;
    let moved = 0;
    const move = (now) => {
      timeline.pan(((x - now.clientX - moved) * perPixel) / (high - low));
      moved = x - now.clientX;
    };
    const end = () => {
      plot.over.classList.remove("panning");
      removeEventListener("mousemove", move);
      removeEventListener("mouseup", end);
    };
    plot.over.classList.add("panning");
    addEventListener("mousemove", move);
    addEventListener("mouseup", end);
    return null;
  };
}

// One finger moves, two zoom; up and down stay the page's.
function touch(place, plotOf, timeline) {
  const fingers = new Map();
  const spread = () => {
    const xs = [...fingers.values()];
    return { middle: xs.reduce((a, b) => a + b, 0) / xs.length, width: Math.abs(xs[0] - (xs[1] ?? xs[0])) };
  };
  place.addEventListener("pointerdown", (event) => {
    const { over } = plotOf();
    if (event.pointerType !== "touch" || !over.contains(event.target)) return;
    fingers.set(event.pointerId, event.clientX);
    over.setPointerCapture(event.pointerId);
  });
  place.addEventListener("pointermove", (event) => {
    if (!fingers.has(event.pointerId)) return;
    const before = spread();
    fingers.set(event.pointerId, event.clientX);
    const after = spread(),
      plot = plotOf();
    if (after.middle !== before.middle) timeline.pan((before.middle - after.middle) / plot.over.clientWidth);
    if (fingers.size === 2 && after.width > 10 && before.width > 10) {
      timeline.zoom(before.width / after.width, plot.posToVal(after.middle - left(plot), "x"));
    }
  });
  for (const kind of ["pointerup", "pointercancel"]) {
    place.addEventListener(kind, (event) => fingers.delete(event.pointerId));
  }
}

const left = (plot) => plot.over.getBoundingClientRect().left;
