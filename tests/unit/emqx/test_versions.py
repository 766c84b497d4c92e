from hooks.emqx.versions import NEW_LIMITS, UNKNOWN, version_of, versions_of


def test_a_version_is_what_its_text_begins_with() -> None:
    assert version_of("5.8.9") == (5, 8, 9)
    assert version_of("6.2.2-rc.1") == (6, 2, 2)
    assert version_of("6.2") == (6, 2, 0)
    assert version_of("") == version_of("latest") == UNKNOWN
    assert version_of("5.10.1") > NEW_LIMITS > version_of("5.8.12")


def test_versions_of_a_cluster_are_in_order() -> None:
    nodes = [{"version": "5.10.0"}, {"version": "5.8.9"}, {"version": "5.10.0"}]
    assert versions_of(nodes) == [(5, 8, 9), (5, 10, 0)]
    assert versions_of([]) == [UNKNOWN]
