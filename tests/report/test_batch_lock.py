"""A table in any format is one run's at a time, whatever path leads to it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.report.tables import paths
from tests.report.test_batch_table import FORMATS, NAMES, fill, stamps
from torchfakes_cli.errors import OutputError
from torchfakes_cli.report import BatchTable, check_batch_target

HOLD = """
import sys, time
from torchfakes_cli.report import BatchTable
with BatchTable(sys.argv[1], {}):
    print("open", flush=True)
    time.sleep(60)
"""


@pytest.fixture(params=FORMATS)
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return tmp_path / f"results{request.param}"


def test_two_runs_cannot_share_an_output_and_a_dead_one_blocks_nobody(path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(OutputError, match="another scan"):
            check_batch_target(path, NAMES)
        with pytest.raises(OutputError, match="another scan"), BatchTable(path, stamps(), force=True):
            pass
        other.kill()
        other.wait()
    fill(path)
    assert paths(path) == NAMES


def test_a_link_stays_one_and_shares_the_lock(path: Path, tmp_path: Path) -> None:
    link = tmp_path / f"link{path.suffix}"
    try:
        link.symlink_to(path)
    except OSError:
        pytest.skip("this system lets us make no links")
    with BatchTable(link, stamps()), pytest.raises(OutputError, match="another scan"):
        check_batch_target(path, NAMES)
    fill(link)
    assert link.is_symlink()
    assert paths(path) == NAMES


def test_checking_leaves_nothing_behind(path: Path, tmp_path: Path) -> None:
    check_batch_target(path, NAMES)
    assert list(tmp_path.iterdir()) == []
