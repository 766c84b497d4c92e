import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from emqx_im_client.errors import StateDamaged, StateInUse
from emqx_im_client.state import FileState, OutgoingMessage, Position


def test_what_is_saved_is_there_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "chat" / "1001.json"
    state = FileState(path)
    state.saved.position = Position(5, "epoch")
    state.saved.seen["a"] = ""
    state.saved.unsent["b"] = OutgoingMessage("b", "single/1002", '{"id":"b"}', 1.5)
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
from emqx_im_client.state import FileState, Position
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


def test_each_state_names_a_device_of_its_own_and_keeps_the_name(tmp_path: Path) -> None:
    devices = set()
    for name in ("phone.json", "laptop.json"):
        state = FileState(tmp_path / name)
        devices.add(state.saved.device)
        state.close()
        again = FileState(tmp_path / name)
        devices.add(again.saved.device)
        again.close()
    assert len(devices) == 2
    assert all(len(device) == 16 and device.isalnum() for device in devices)


def test_a_file_of_before_devices_had_ids_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "1001.json"
    path.write_text('{"position": {"cursor": 5, "epoch": "e"}, "seen": {}, "unsent": {}}')
    state = FileState(path)
    assert state.saved.position == Position(5, "e")
    assert state.saved.device
    state.close()


def test_only_the_owner_may_read_it(tmp_path: Path) -> None:
    path = tmp_path / "chat" / "1001.json"
    before = os.umask(0)
    try:
        state = FileState(path)
        # What another program left there with open permissions.
        path.with_suffix(".new").write_text("")
        path.with_suffix(".new").chmod(0o666)
        state.save()
        state.close()
    finally:
        os.umask(before)
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert {file.name: file.stat().st_mode & 0o777 for file in path.parent.iterdir()} == {
        "1001.json": 0o600,
        "1001.lock": 0o600,
    }


@pytest.mark.parametrize("suffix", [".json", ".lock", ".new"])
def test_no_link_is_followed(tmp_path: Path, suffix: str) -> None:
    precious = tmp_path / "precious"
    precious.write_text("precious")
    path = tmp_path / "1001.json"
    path.with_suffix(suffix).symlink_to(precious)
    if suffix == ".new":
        FileState(path).close()
    else:
        with pytest.raises(OSError, match="symbolic links"):
            FileState(path)
    assert precious.read_text() == "precious"


def test_a_full_disk_is_told_and_what_was_to_be_saved_is_saved_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "1001.json"
    state = FileState(path)
    state.saved.position = Position(7, "e")
    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError("No space left on device")))
        with pytest.raises(OSError, match="No space left"):
            state.save()
    state.save()
    state.close()
    again = FileState(path)
    assert again.saved.position == Position(7, "e")
    again.close()
