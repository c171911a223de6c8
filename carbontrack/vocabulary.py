"""Every vocabulary: the words that are stored, printed as JSON or given on the command line.

Each is a StrEnum, so that its words are strings wherever they go. A device or an event of another
package may have words of its own: what is read from a ledger stays text, and compares with these.
"""

from __future__ import annotations

from enum import StrEnum


class Status(StrEnum):
    """How a run stands; one whose heartbeat stopped reads *interrupted*."""

    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    INTERRUPTED = "interrupted"


class RunKind(StrEnum):
    """What a run is of."""

    JOB = "job"
    WATCH = "watch"  # of a node, whatever runs on it
    IMPORTED = "imported"  # of another tool's file
    STATED = "stated"  # entered by hand


MIXED = "mixed"
"""The status of a row of several runs, of which not all stand alike."""

UNATTRIBUTED = "unattributed"
"""The kind of a row of watches: what their nodes used and no run beside them did."""


class DeviceKind(StrEnum):
    """What a device is; it decides whether its hours count as GPU-hours."""

    GPU = "gpu"
    CPU = "cpu"
    DRAM = "dram"
    NODE = "node"  # a whole machine, or all that another tool adds up


class MeterName(StrEnum):
    """The meters of this package; others come through entry points."""

    NVML = "nvml"
    RAPL = "rapl"
    CPU_MODEL = "cpu-model"
    SIMULATED = "sim"


ENTERED = "entered by hand"
"""The meter of a run that was measured elsewhere and entered with `carbontrack add`."""

NO_METER = "none"
"""The meter of GPU-hours that are given and not recorded."""


class Quality(StrEnum):
    """How an energy came about, from best to worst; printed wherever the number is."""

    COUNTER = "counter"  # difference of the device's own energy counter
    POWER = "power"  # step (zero-order hold) integral of power samples
    STATED = "stated"  # a total as another tool states it, however it came about
    ESTIMATE = "estimate"  # a model (TDP × utilisation), not a measurement
    SIMULATED = "simulated"  # replayed; no real device was read


MEASURED = "measured"
"""The kind of a sub-total of devices that were measured, by counter or by power."""

UNMEASURED = (Quality.SIMULATED, Quality.ESTIMATE)
"""Printed beside every number that they are in, as no device was measured for it."""


class Scope(StrEnum):
    """What a reading includes."""

    GPU = "gpu"
    GPU_OF_MODULE = "gpu-of-module"  # the GPU alone of a Grace module, whose sensor has all of it
    CPU = "cpu"
    DRAM = "dram"
    NODE = "node"


class EventKind(StrEnum):
    """What happened. The recorder emits those above the line; a job may log any other kind too."""

    COUNTER_RESET = "counter-reset"
    DEVICE_LOST = "device-lost"
    DEVICE_FOUND = "device-found"
    DEVICE_SILENT = "device-silent"
    SENSOR_DOUBTED = "sensor-doubted"
    SENSOR_TRUSTED = "sensor-trusted"
    LEDGER_REPLACED = "ledger-replaced"
    BUDGET = "budget"
    CLOCK_OFF = "clock-off"  # by an hour or more
    CLOCK_SET = "clock-set"  # the system's; the run goes on by the time before
    RESTARTED = "restarted"
    # ----
    PHASE = "phase"
    EVAL = "eval"
    SCORE = "score"  # in a benchmark
    CHECKPOINT = "checkpoint"
    SKIPPED = "skipped"
    DISTILLED = "distilled"  # answers of a model with a hint, for one without
    PREEMPTED = "preempted"


class Doubt(StrEnum):
    """Why a sensor is not believed: what docs/meters.md calls rules; in the data of an event."""

    POWER_IMPOSSIBLE = "power-impossible"
    COUNTER_IMPOSSIBLE = "counter-impossible"
    COUNTER_RESET = EventKind.COUNTER_RESET.value  # which has an event of its own
    COUNTER_JUMP = "counter-jump"
    COUNTER_FAST = "counter-fast"
    COUNTER_FROZEN = "counter-frozen"
    COUNTER_STILL = "counter-still"
    COUNTER_SLOW = "counter-slow"
    COUNTER_SILENT = "counter-silent"
    POWER_FROZEN = "power-frozen"
    SENSORS_DISAGREE = "sensors-disagree"
    ABOVE_LIMIT = "above-limit"


class Scheduler(StrEnum):
    """What started a job, and so says which processes belong to it."""

    SLURM = "slurm"
    PBS = "pbs"
    LSF = "lsf"
    FLUX = "flux"
    KUBERNETES = "kubernetes"
    RAY = "ray"
    TORCHRUN = "torchrun"
    MPI = "mpi"


class ImportKind(StrEnum):
    """The kinds of files that `carbontrack import` reads."""

    CODECARBON = "codecarbon"
    NVIDIA_SMI = "nvidia-smi"
    DMON = "dmon"
    DCGM = "dcgm"
    PROMETHEUS = "prometheus"
    SACCT = "sacct"
    WANDB = "wandb"
    CARBONTRACKER = "carbontracker"
    ZEUS = "zeus"
    ECO2AI = "eco2ai"
    MLPERF = "mlperf"
    CSV = "csv"


class Method(StrEnum):
    """How energy becomes an estimate; see `account.formulas`."""

    MEASURED = "measured"
    REPORT = "report"  # GPU-hours × rated power, as the Llama 2 report


class Reproduction(StrEnum):
    """How a published figure compares with the one that follows from its inputs; best first."""

    REPRODUCES = "reproduces"  # to one unit in the last printed place: rounded or cut
    INPUT_ROUNDING = "input rounding"  # within the rounding of its inputs
    CLOSE = "within 0.5 %"
    ENERGY_ONLY = "energy only"  # the energy follows, and of the printed CO2e nothing can
    DIFFERS = "does not follow"
    NO_INPUTS = "no inputs"


class Verdict(StrEnum):
    """What `doctor` says of a finding."""

    OK = "ok"
    NOTE = "note"  # worth knowing, and nothing to fix
    PROBLEM = "problem"  # makes `doctor` fail


class Agreement(StrEnum):
    """Whether reports print the same for one model in one benchmark."""

    ALONE = "one report"
    AGREES = "reports agree"
    DIFFERS = "reports differ"


class BudgetState(StrEnum):
    """Where a budget stands."""

    WITHIN = "within"
    NEAR = "near"
    SPENT = "spent"


class Per(StrEnum):
    """The calendar period of a quota, in UTC."""

    MONTH = "month"
    QUARTER = "quarter"
    YEAR = "year"


class OnBudget(StrEnum):
    """What to do when a limit is spent."""

    WARN = "warn"
    STOP = "stop"  # SIGTERM to the job


class Devices(StrEnum):
    """Which devices are recorded."""

    JOB = "job"  # those that the job can see
    ALL = "all"  # of the node


class AmendedField(StrEnum):
    """What of a run can be amended, beside its tags (tag:KEY) and its settings, by their names."""

    NAME = "name"
    PROJECT = "project"
    TOKENS = "tokens"  # of all steps together
    PLANNED_TOKENS = "planned_tokens"  # of its model card
    NOTE = "note"
    UNDO = "undo"  # another amendment, by its id


class FactorKind(StrEnum):
    """The tables of factors."""

    INTENSITY = "intensity"
    PUE = "pue"
    HARDWARE = "hardware"
    PRICE = "price"


class PriceUnit(StrEnum):
    """What an imported price is of."""

    GPU_HOUR = "gpu_hour"
    KWH = "kwh"


class Format(StrEnum):
    """Output for people or for programs."""

    TEXT = "text"
    JSON = "json"


class TableFormat(StrEnum):
    """What `table --format` knows."""

    TEXT = "text"
    MARKDOWN = "markdown"
    LATEX = "latex"
    BIBTEX = "bibtex"
    HTML = "html"
    CSV = "csv"
    JSON = "json"
    YAML = "yaml"
    PARQUET = "parquet"
    CARD = "card"


class FigureKind(StrEnum):
    """What a figure shows."""

    OVERVIEW = "overview"
    POWER = "power"
    LOSS = "loss"
    ENERGY = "energy"
    EFFICIENCY = "efficiency"
    PHASES = "phases"
    DEVICES = "devices"
    COMPARE = "compare"
    CARBON_BY_HOUR = "carbon-by-hour"


class FigureStyle(StrEnum):
    """What a figure is made for."""

    PAPER = "paper"
    SLIDE = "slide"


class LogAxes(StrEnum):
    """Which axes of a figure of losses are logarithmic."""

    X = "x"
    Y = "y"
    BOTH = "both"
    NEITHER = "neither"


class Against(StrEnum):
    """What `plot --kind compare` draws a loss against."""

    ENERGY = "energy"
    CARBON = "carbon"
    MONEY = "money"
