// The words of carbontrack/vocabulary.py that the page knows; a test holds the two together.

export const Status = Object.freeze({
  RUNNING: "running",
  COMPLETED: "completed",
  FAILED: "failed",
  INTERRUPTED: "interrupted",
});

export const Quality = Object.freeze({
  COUNTER: "counter",
  POWER: "power",
  STATED: "stated",
  ESTIMATE: "estimate",
  SIMULATED: "simulated",
});

export const Method = Object.freeze({ MEASURED: "measured", REPORT: "report" });

export const BudgetState = Object.freeze({ WITHIN: "within", NEAR: "near", SPENT: "spent" });

// What the recorder emits, and what jobs are known to log; a job may log any other kind too.
export const EventKind = Object.freeze({
  COUNTER_RESET: "counter-reset",
  DEVICE_LOST: "device-lost",
  DEVICE_FOUND: "device-found",
  DEVICE_SILENT: "device-silent",
  SENSOR_DOUBTED: "sensor-doubted",
  SENSOR_TRUSTED: "sensor-trusted",
  LEDGER_REPLACED: "ledger-replaced",
  BUDGET: "budget",
  CLOCK_OFF: "clock-off",
  CLOCK_SET: "clock-set",
  RESTARTED: "restarted",
  PHASE: "phase",
  EVAL: "eval",
  SCORE: "score",
  CHECKPOINT: "checkpoint",
  SKIPPED: "skipped",
  DISTILLED: "distilled",
  PREEMPTED: "preempted",
});

export const TableFormat = Object.freeze({
  TEXT: "text",
  MARKDOWN: "markdown",
  LATEX: "latex",
  BIBTEX: "bibtex",
  HTML: "html",
  CSV: "csv",
  JSON: "json",
  YAML: "yaml",
  PARQUET: "parquet",
  CARD: "card",
});
