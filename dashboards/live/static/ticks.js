// Where the ticks of a time axis stand, and what is written at them.

const SECOND = 1,
  MINUTE = 60,
  HOUR = 3600,
  DAY = 86400;

export const STEPS = [
  SECOND,
  2,
  5,
  10,
  15,
  30,
  MINUTE,
  2 * MINUTE,
  5 * MINUTE,
  10 * MINUTE,
  15 * MINUTE,
  30 * MINUTE,
  HOUR,
  2 * HOUR,
  3 * HOUR,
  6 * HOUR,
  12 * HOUR,
  DAY,
  2 * DAY,
  7 * DAY,
  14 * DAY,
  30 * DAY,
  90 * DAY,
];

// One line a tick, as fine as the ticks are: two lines run into each other on a narrow chart.
export function clock(_plot, ticks, _axis, _space, step) {
  const fine =
    step >= DAY
      ? { month: "short", day: "numeric" }
      : step >= MINUTE
        ? { hour: "2-digit", minute: "2-digit", hourCycle: "h23" }
        : { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" };
  const written = new Intl.DateTimeFormat([], fine);
  return ticks.map((at) => written.format(at * 1000));
}
