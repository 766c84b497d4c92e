import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hooks.device.errors import StateDamaged, StateInUse
from hooks.device.state import FileState, Outgoing, Position


def test_what_is_saved_is_there_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "chat" / "1001.json"
    state = FileState(path)
    state.saved.position = Position(5, "epoch")
    state.saved.seen["a"] = ""
    state.saved.unsent["b"] = Outgoing("b", "single/1002", '{"id":"b"}', 1.5)
    state.save()
    state.close()
    again = FileState(path)
    assert again.saved == state.saved
    again.close()


def test_one_process_at_a_time(tmp_path: Path) -> None:
    state = FileState(tmp_path / "1001.json")
    with pytest.raises(StateInUse, match=r"1001\.json is in use"):
        FileState(tmp_path / "1001.json")
    state.close()
    FileState(tmp_path / "1001.json").close()


WRITER = """
import sys
from pathlib import Path
from hooks.device.state import FileState, Position
state = FileState(Path(sys.argv[1]))
number = 0
while True:
    number += 1
    state.saved.position = Position(number, "e" * (number % 5000))
    state.save()
"""


def test_a_process_killed_while_it_saves_leaves_a_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "1001.json"
    last = 0
    for _ in range(3):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path)])
        deadline = time.monotonic() + 20
        while not path.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.1)
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        state = FileState(path)
        last = state.saved.position.cursor
        state.close()
        assert last > 0
        path.unlink()


def test_a_damaged_file_is_named_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "1001.json"
    for content in ("", "{}", '{"position": 1, "seen": {}, "unsent": {}}'):
        path.write_text(content)
        with pytest.raises(StateDamaged, match=r"1001\.json is damaged"):
            FileState(path)
        assert path.read_text() == content
