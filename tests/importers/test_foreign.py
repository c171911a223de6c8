"""Files of another kind than the one that is asked for: a line that says so, never a traceback."""

from __future__ import annotations

from pathlib import Path

import pytest

from carbontrack.errors import CarbontrackError
from carbontrack.importers.identify import READERS, identify
from carbontrack.importers.model import FileOptions, Tally
from carbontrack.importers.source import Source
from tests.fixtures.command import Command

FOREIGN = {
    "nothing": "",
    "two columns": "a,b\n1,2\n3,4\n",
    "times alone": "timestamp,value\n2026-01-31T12:00:00Z,5\n2026-01-31T12:00:01Z,5\n",
    "windows without energies": "start_time,elapsed_time\n1700000000,10\n",
    "a job without energies": "JobID|State\n7|COMPLETED\n",
    "dashes": "a   b\n--- ---\n1   2\n",
    "a list": "[1, 2]\n",
    "an object": '{"_timestamp": 1}\n',
    "a result of numbers": '{"data": {"resultType": "matrix", "result": [1]}}\n',
    "a result without values": '{"data": {"resultType": "matrix", "result": [{"metric": {}}]}}\n',
    "a comment": "# gpu: pwr\n0 5\n0 5\n",
    "a log": ":::MLLOG 5\nepoch 1: loss 2.5\n",
}


@pytest.mark.parametrize("kind", [reader.KIND for reader in READERS])
@pytest.mark.parametrize("text", FOREIGN.values(), ids=FOREIGN)
def test_a_file_of_another_kind_is_refused(tmp_path: Path, kind: str, text: str) -> None:
    path = tmp_path / "file.log"
    path.write_text(text)
    source = Source(path)
    given = FileOptions("UTC", start="2026-01-31T12:00:00", interval_s=1)
    with pytest.raises(CarbontrackError, match=r"file\.log"):
        identify(source, kind).read(source, given, Tally())


@pytest.mark.parametrize("kind", ["dcgm", "zeus"])
def test_the_command_says_it_in_a_line(command: Command, tmp_path: Path, kind: str) -> None:
    (tmp_path / "windows.csv").write_text(FOREIGN["windows without energies"])
    done = command("import", "windows.csv", "--kind", kind, "--tz", "UTC")
    assert done.code == 2
    assert "windows.csv has no column of a" in done.err
    assert done.err.count("\n") == 1
