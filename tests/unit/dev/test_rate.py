"""The rates that the rules set for EMQX 5.8."""

from importlib.resources import files
from pathlib import Path

import pytest

from hooks.dev import EmbeddedError
from hooks.dev.rate import bytes_rate


def test_the_shipped_rate() -> None:
    assert bytes_rate(files("hooks") / "rules") == 32 * 1024


@pytest.mark.parametrize(
    ("text", "rate"), [("", None), ("bytes_rate = infinity", None), ('bytes_rate = "2MB/s"', 2**21)]
)
def test_rates(tmp_path: Path, text: str, rate: int | None) -> None:
    (tmp_path / "before-5.9.hocon").write_text(f"listeners {{\n{text}\n}}\n")
    assert bytes_rate(tmp_path) == rate


@pytest.mark.parametrize("text", ['bytes_rate = "2GB/h"', 'messages_rate = "50/s"'])
def test_what_is_not_followed_stops_the_start(tmp_path: Path, text: str) -> None:
    (tmp_path / "before-5.9.hocon").write_text(f"listeners {{\n{text}\n}}\n")
    with pytest.raises(EmbeddedError, match=r"^before-5\.9\.hocon: not supported: \w+_rate = "):
        bytes_rate(tmp_path)
