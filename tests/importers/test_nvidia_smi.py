"""nvidia-smi's query CSV in the variants that people log, and tables made in its image."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from carbontrack.importers import plain_csv
from carbontrack.importers.model import FileOptions, Tally
from carbontrack.importers.source import Source
from tests.importers.files import read, refusal

HEAD = "timestamp, index, uuid, power.draw [W], utilization.gpu [%]\n"
UUIDS = [f"GPU-0000000{n}-1111-2222-3333-444444444444" for n in range(2)]


def rows(count: int = 4) -> str:
    """Two GPUs, a second a sample: 100 W and 200 W."""
    return "".join(
        f"2024/03/01 10:00:{second:02d}.500, {gpu}, {UUIDS[gpu]}, {100 * (gpu + 1)}.00 W, 9 %\n"
        for second in range(count)
        for gpu in range(2)
    )


def test_devices_are_known_by_their_uuid(tmp_path: Path) -> None:
    found = read(tmp_path, HEAD + rows())
    assert found.kind == "nvidia-smi"
    assert found.by_device == {UUIDS[0]: 300, UUIDS[1]: 600}
    assert [device.uuid for device in found.first.devices] == UUIDS
    assert found.duration_s == 3
    assert found.first.started_ns == 1709287200_500_000_000
    assert found.first.rows == (2, 9)


@pytest.mark.parametrize(
    "variant",
    [
        lambda text: text.replace(" W,", ",").replace(" [W]", "").replace(" %", ""),
        lambda text: text.replace("power.draw", "power.draw.instant"),
        lambda text: text.replace("power.draw", "power.draw.average"),
        lambda text: text.replace("2024/03/01 ", "2024-03-01T"),
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text.replace(HEAD, "").replace("\n", "\n" + HEAD) + HEAD,
        lambda text: text.partition("\n")[2],
        lambda text: text.replace("uuid", "pci.bus_id").replace("GPU-", "00000000:0").strip(),
        lambda text: text.encode("utf-16"),
        lambda text: b"\xef\xbb\xbf" + text.encode(),
        lambda text: "\n\n" + text,
        lambda text: text.replace(", ", ";"),
        lambda text: text.replace("9 %", "[N/A]"),
        lambda text: (
            text.replace("index, uuid", "gpu, index").replace(UUIDS[0], "0").replace(UUIDS[1], "0")
        ),
    ],
)
def test_each_variant_has_the_same_energy(
    tmp_path: Path, variant: Callable[[str], str | bytes]
) -> None:
    found = read(tmp_path, variant(HEAD + rows()))
    assert sorted(found.by_device.values()) == [300, 600]
    assert found.tally.rejected == 0


def test_long_logs_are_read_in_blocks_with_the_same_energy(tmp_path: Path) -> None:
    lines = (
        f"2024/03/01 {s // 3600:02d}:{s // 60 % 60:02d}:{s % 60:02d}.000, {gpu}, {UUIDS[gpu]}, "
        f"{'[N/A]' if s == 20_000 else f'{100 * (gpu + 1)}.00 W'}, {'x' * 60}\n"
        for s in range(30_000)
        for gpu in range(2)
    )
    text = HEAD + "".join(lines)
    text = text.replace("2024/03/01 08:00:00.000, 1", "broken, 1", 1)
    found = read(tmp_path, text, FileOptions(tz="Europe/Paris"))
    assert len(text) > 5e6  # several blocks
    assert found.by_device == {UUIDS[0]: 100 * 29_997, UUIDS[1]: 200 * 29_997}
    assert found.tally.rejected == 1
    assert found.tally.first[0][0] == text[: text.index("broken")].count("\n") + 1
    assert found.first.started_ns == 1709247600 * 10**9


def test_a_broken_line_is_named_and_the_rest_comes_in(tmp_path: Path) -> None:
    text = HEAD + rows(6) + "2024/03/01 10:00:07.500, 0, GPU-0"
    text = text.replace("2024/03/01 10:00:02.500, 1", "2024/03/01 ????, 1")
    found = read(tmp_path, text)
    assert [row for row, _ in found.tally.first] == [7, 14]
    assert found.tally.taken == 11
    assert sum(found.by_device.values()) == 1500  # two seconds are bridged


def test_a_power_that_is_not_one_is_a_gap(tmp_path: Path) -> None:
    text = (HEAD + rows(6)).replace("10:00:02.500, 1, ", "10:00:02.500, 1, ")
    text = re.sub(r"(02\.500, 1, \S+) 200\.00 W", r"\1 2oo W", text)
    found = read(tmp_path, text)
    assert found.by_device[UUIDS[1]] == 600
    assert found.tally.first == [(7, "'2oo W' is not a power")]


def test_a_time_that_goes_back_is_not_taken(tmp_path: Path) -> None:
    back = rows(6) + rows(1).replace("00.500", "02.100")
    found = read(tmp_path, HEAD + back)
    assert sum(found.by_device.values()) == 1500
    assert [row for row, _ in found.tally.first] == [14, 15]


def test_two_samples_of_one_device_at_one_time_are_refused(tmp_path: Path) -> None:
    text = "\n".join(",".join(line.split(",")[::3]) for line in (HEAD + rows()).split("\n"))
    why = refusal(tmp_path, text)
    assert "row 3: a second sample of GPU at the same time" in why


TURN_MS = (4, 2, 1, 3)  # from one GPU to the next, as nvidia-smi stamps them


def stamp(at: datetime) -> str:
    return f"{at:%Y/%m/%d %H:%M:%S.%f}"[:-3]


def in_turn(gpus: int, *, step_ms: int = 1000, ticks: int = 60, cells: str = "") -> str:
    """Rows of GPUs that one query reads one after the other: 600 W each. `{gpu}` in the cells is
    the number of each.
    """
    at, lines = datetime(2024, 3, 1, 9), []
    for _ in range(ticks):
        for gpu in range(gpus):
            time = at + timedelta(milliseconds=sum(TURN_MS[n % 4] for n in range(gpu)))
            lines.append(f"{stamp(time)}{cells.format(gpu=gpu)}, 600.00 W\n")
        at += timedelta(milliseconds=step_ms)
    return "".join(lines)


@pytest.mark.parametrize("gpus", [2, 3, 4, 8, 16])
@pytest.mark.parametrize("step_ms", [100, 1000, 5000])
@pytest.mark.parametrize("column", ["", ", name"])
def test_gpus_that_no_column_tells_apart_are_refused(
    tmp_path: Path, gpus: int, step_ms: int, column: str
) -> None:
    cells = column.replace("name", "NVIDIA H100")
    rows = in_turn(gpus, step_ms=step_ms, cells=cells)
    head = f"timestamp{column}, power.draw [W]\n"
    why = refusal(tmp_path, head + rows)
    assert f"come {gpus} at once, as of {gpus} GPUs read in turn" in why
    assert "Does a column name each GPU" in why
    assert "--device-column" in why
    cut = rows.partition("\n")[2]
    assert f"come {gpus} at once" in refusal(tmp_path, head + cut)


def test_a_column_that_names_them_may_have_any_name(tmp_path: Path) -> None:
    text = "timestamp, slot, power.draw [W]\n" + in_turn(8, cells=", {gpu}")
    assert "come 8 at once" in refusal(tmp_path, text)
    found = read(tmp_path, text, FileOptions("UTC", device_column="slot"))
    assert len(found.by_device) == 8
    assert found.energy_j == pytest.approx(8 * 600 * 59)
    one = "timestamp, slot, power.draw [W]\n" + in_turn(2, cells=", 0")  # polled in bursts
    assert "come 2 at once" in refusal(tmp_path, one)
    found = read(tmp_path, one, FileOptions("UTC", device_column="slot"))
    assert (len(found.by_device), found.tally.taken) == (1, 120)
    assert "no column 'tray'" in refusal(tmp_path, text, FileOptions("UTC", device_column="tray"))


@pytest.mark.parametrize("step_ms", [1000, 100, 20])
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("pauses", [0.0, 0.02, 0.2])
def test_one_gpu_with_jitter_and_pauses_is_taken(
    tmp_path: Path, step_ms: int, seed: int, pauses: float
) -> None:
    of = random.Random(seed)
    at, lines = datetime(2024, 3, 1, 9), []
    for _ in range(500):
        lines.append(f"{stamp(at)}, 100 W\n")
        longer = 6 if of.random() < pauses else 1
        at += timedelta(milliseconds=step_ms * longer * of.uniform(0.6, 1.6))
    found = read(tmp_path, "timestamp, power.draw [W]\n" + "".join(lines))
    assert found.energy_j == pytest.approx(100 * found.duration_s)
    assert found.tally.taken == 500


@pytest.mark.parametrize(
    ("column", "cell"),
    [("name", "NVIDIA RTX PRO 6000 Blackwell Workstation Edition"), ("serial", "[N/A]")],
)
def test_a_name_is_the_same_in_every_block(tmp_path: Path, column: str, cell: str) -> None:
    """A unit or a word for no value is taken off powers alone."""
    start = datetime(2024, 3, 1)
    times = [start + timedelta(seconds=n) for n in range(25_000)]
    rows = [f"{stamp(at)}, {cell}, 300.00 W, {'x' * 9}\n" for at in times]
    rows[20_000] = rows[20_000].replace("300.00 W", "[N/A]")
    text = f"timestamp, {column}, power.draw [W], pstate\n{''.join(rows)}"
    assert len(text) > 1.2e6  # more than two blocks
    found = read(tmp_path, text)
    assert found.by_device == {cell: 300 * (25_000 - 1 - 2)}
    assert found.tally.rejected == 0


def test_milliwatts_under_a_header_in_watts_are_refused(tmp_path: Path) -> None:
    lines = "".join(f"2025-07-03T08:43:{s:02d}.5,{6000 + s}.00\n" for s in range(10))
    why = refusal(tmp_path, f"timestamp,gpu_power_w\n{lines}")
    assert "above 1,500 W in 9 rows" in why or "above 1,500 W in 10 rows" in why
    assert "mW?" in why
    named = FileOptions("UTC", time_column="timestamp", power_column="gpu_power_w", unit="mW")
    (run,) = plain_csv.read(Source(tmp_path / "file.log"), named, Tally())
    assert run.energy_j == pytest.approx(9 * 6.0045)


def test_what_has_no_power_is_refused_with_what_it_has(tmp_path: Path) -> None:
    head = "timestamp, name, utilization.gpu [%], memory.used [MiB]\n"
    why = refusal(tmp_path, head + "2024/03/01 10:00:00.000, A100, 3 %, 4 MiB\n")
    assert "no power column: it has timestamp, name, utilization.gpu [%]" in why
    assert "--query-gpu=timestamp,uuid,power.draw" in why
    why = refusal(tmp_path, head.encode("utf-16") + "2024/03/01 1".encode("utf-16-le"))
    assert "no power column" in why


def test_what_is_not_a_log_is_refused_as_what_it_is(tmp_path: Path) -> None:
    people = "Tue Oct 29 19:00:23 2024\n+---+\n| NVIDIA-SMI 550.54.15 |\n"
    assert "prints for people" in refusal(tmp_path, people)
    bare = "2024/03/01 10:00:00.000, 3, 4\n"
    assert "no header" in refusal(tmp_path, bare * 3)
    assert "is empty" in refusal(tmp_path, "")
    assert "of no kind that is known" in refusal(tmp_path, "Dear diary,\n")


def test_one_sample_is_no_energy(tmp_path: Path) -> None:
    assert "no two samples of a device follow each other" in refusal(tmp_path, HEAD + rows(1))


def test_local_times_are_not_guessed(tmp_path: Path) -> None:
    assert "Give --tz" in refusal(tmp_path, HEAD + rows(), FileOptions())
    with_offset = (HEAD + rows()).replace(".500", ".500+02:00")
    assert read(tmp_path, with_offset, FileOptions()).first.started_ns == 1709280000_500_000_000


def test_columns_of_several_gpus(tmp_path: Path) -> None:
    lines = "".join(f"{1763638585 + n}.250,100,{n}\n" for n in range(5))
    found = read(tmp_path, f"timestamp,GPU0,GPU1\n{lines}")
    assert found.kind == "csv"
    assert found.by_device == {"GPU0": 400, "GPU1": 8}


def test_an_epoch_in_nanoseconds(tmp_path: Path) -> None:
    lines = "".join(f"{1747583343809690966 + n * 125_000_000},13.5\r\n" for n in range(9))
    found = read(tmp_path, f"Timestamp (ns),Power Draw (W)\r\n{lines}")
    assert found.energy_j == pytest.approx(13.5)
    assert found.duration_s == 1.0


def samples(*rows: tuple[str, object], head: str = "time,power_w") -> str:
    return f"{head}\n" + "".join(f"{at},{power}\n" for at, power in rows)


@pytest.mark.parametrize(
    "at", ["9999-12-31 23:59:59", "0001-01-01 00:00:00", "1970-01-01 00:00:00"]
)
@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("tz", ["UTC", "+05:00", "-05:00"])
def test_a_time_at_which_nothing_ran_is_named(
    tmp_path: Path, at: str, first: bool, tz: str
) -> None:
    good = [("2026-01-31 12:00:00", 300), ("2026-01-31 12:00:01", 300)]
    rows = [(at, 300), *good] if first else [*good, (at, 300)]
    found = read(tmp_path, samples(*rows), FileOptions(tz=tz))
    assert (found.energy_j, found.duration_s) == (300, 1)
    ((row, why),) = found.tally.first
    assert row == (2 if first else 4)
    assert at in why


def test_such_a_time_in_a_block_that_is_read_at_once(tmp_path: Path) -> None:
    """All but the first half a MB are."""
    rows = [(f"{1767225600 + second}", 300) for second in range(60_000)]
    for odd in ("4102444800", "1000000000"):
        rows[50_000] = (odd, 300)
        found = read(tmp_path, samples(*rows))
        assert [row for row, _ in found.tally.first] == [50_002]
        assert found.duration_s == 59_999


def test_a_year_among_few_samples_is_no_usual_step(tmp_path: Path) -> None:
    rows = [("2025-01-31 12:00:01", 300), ("2025-01-31 12:00:02", 300)]
    found = read(tmp_path, samples(*rows, ("2026-01-31 12:00:01", 300)))
    assert found.energy_j == 300
    why = refusal(tmp_path, samples(rows[0], ("2026-01-31 12:00:01", 300)))
    assert "no two samples of a device follow each other within 10 h" in why


@pytest.mark.parametrize("minutes", [15, 60])
def test_a_sparse_log_is_known_and_its_long_pause_is_not(tmp_path: Path, minutes: int) -> None:
    start = datetime(2025, 3, 1)
    hours = [*range(5), 100, 101]
    times = [start + timedelta(minutes=minutes * hour) for hour in hours]
    found = read(tmp_path, samples(*((f"{at:%Y-%m-%d %H:%M:%S}", 300) for at in times)))
    assert found.energy_j == 300 * 5 * minutes * 60


@pytest.mark.parametrize("power", ["300,5", "3_00 W", "٣٠٠"])
def test_a_power_that_cannot_be_read_is_named_where_none_can(tmp_path: Path, power: str) -> None:
    rows = [f"2025-01-31 12:00:0{second};{power}\n" for second in range(3)]
    why = refusal(tmp_path, "time;power_w\n" + "".join(rows))
    assert f"Row 2: {power!r} is not a power" in why
    assert ("write 300.5" in why) == ("," in power)


def test_a_value_of_any_length_is_a_short_line(tmp_path: Path) -> None:
    odd = ("1e308 W", "x" * 5000)
    rows = [(f"2025-01-31 12:00:0{n}", power) for n, power in enumerate((300, *odd, 300, 300))]
    found = read(tmp_path, samples(*rows))
    assert sorted(row for row, _ in found.tally.first) == [3, 4]
    assert max(len(why) for _, why in found.tally.first) < 200
