import pytest

from hooks.emqx.versions import NEW_LIMITS, UNKNOWN, open_at_boot, target_version, version_of, versions_of


def test_a_version_is_what_its_text_begins_with() -> None:
    assert version_of("5.8.9") == (5, 8, 9)
    assert version_of("6.2.2-rc.1") == (6, 2, 2)
    assert version_of("6.2") == (6, 2, 0)
    assert version_of("") == version_of("latest") == UNKNOWN
    assert version_of("5.10.1") > NEW_LIMITS > version_of("5.8.12")


@pytest.mark.parametrize(
    ("version", "is_open"),
    [("5.8.6", True), ("5.8.9", True), ("5.8.11", True), ("5.8.12", False), ("5.9.0", False), ("6.2.2", False)],
)
def test_which_versions_let_anybody_in_while_they_start(version: str, is_open: bool) -> None:
    assert open_at_boot(version_of(version)) is is_open


@pytest.mark.parametrize("given", ["5.7", "5.7.9", "4.4", "six", "6", "6.2.", "6.2-rc.1", ""])
def test_what_is_no_target(given: str) -> None:
    with pytest.raises(ValueError, match=r"is not a version of EMQX from 5\.8 on"):
        target_version(given)


def test_targets() -> None:
    assert target_version("5.8") == (5, 8, 0)
    assert target_version("6.2.2") == (6, 2, 2)


def test_versions_of_a_cluster_are_in_order() -> None:
    nodes = [{"version": "5.10.0"}, {"version": "5.8.9"}, {"version": "5.10.0"}]
    assert versions_of(nodes) == [(5, 8, 9), (5, 10, 0)]
    assert versions_of([]) == [UNKNOWN]
