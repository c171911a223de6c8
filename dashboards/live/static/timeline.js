// Which part of a run the charts show: all of it, the newest part, or a stretch that was chosen.

const LEAST_S = 2;

export class Timeline {
  constructor(onChange) {
    this.extent = [0, 1]; // of the run, in seconds
    this.range = null;
    this.last = null;
    this.onChange = onChange;
  }

  get shown() {
    if (this.range) return this.range;
    const [low, high] = this.extent;
    return this.last ? [Math.max(low, high - this.last), high] : this.extent;
  }

  // What to ask the server for; the newest part is asked for alike by all who follow it.
  get query() {
    if (this.range) return `from=${Math.floor(this.range[0] * 1000)}&to=${Math.ceil(this.range[1] * 1000)}&`;
    return this.last ? `last=${this.last}&` : "";
  }

  // New windows cannot fall into what is shown.
  get settled() {
    return this.range !== null && this.range[1] < this.extent[1] - 120;
  }

  grow(low, high) {
    this.extent = [low, Math.max(high, low + 1)];
  }

  whole() {
    this.change(null, null);
  }
  follow(seconds) {
    this.change(null, seconds);
  }

  set(low, high) {
    const [first, last] = this.extent;
    const span = Math.min(Math.max(high - low, LEAST_S), last - first);
    const from = Math.min(Math.max((low + high - span) / 2, first), last - span);
    if (span >= last - first) this.whole();
    else this.change([from, from + span], null);
  }

  zoom(factor, at) {
    const [low, high] = this.shown,
      middle = at ?? (low + high) / 2;
    this.set(middle - (middle - low) * factor, middle + (high - middle) * factor);
  }

  pan(share) {
    const [low, high] = this.shown,
      way = (high - low) * share;
    const [first, last] = this.extent;
    const kept = Math.max(first - low, Math.min(last - high, way)); // as wide as before at the ends
    if (kept) this.set(low + kept, high + kept);
  }

  change(range, last) {
    this.range = range;
    this.last = last;
    this.onChange();
  }
}
