from hooks.bounded import Bounded


def test_the_key_that_was_set_longest_ago_makes_room() -> None:
    kept = Bounded[str, int](2)
    kept["a"] = 1
    kept["b"] = 2
    kept["a"] = 3
    kept["c"] = 4
    assert list(kept.items()) == [("a", 3), ("c", 4)]


def test_a_default_is_bounded_too_and_stays_where_it_was() -> None:
    kept = Bounded[str, int](2)
    kept["a"] = 1
    kept["b"] = 2
    assert kept.setdefault("a", 9) == 1
    assert kept.setdefault("c", 3) == 3
    assert list(kept) == ["b", "c"]
