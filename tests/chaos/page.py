"""The page of the campaign, and its line in the README, made of what all sessions have found."""

import re
import statistics
from pathlib import Path

from tests.chaos.campaign import MESSAGES, PLAYS
from tests.chaos.checker import Promise
from tests.chaos.faults import faults
from tests.chaos.results import Played, Results
from tests.chaos.workloads import workloads

_PROMISES = """\
## What is looked for
A message counts once, however many users saw that something was wrong with it.

| | what was seen | messages |
| --- | --- | ---: |
"""


def write_page(results: Results, docs: Path) -> Path:
    """Writes the page and the README's line."""
    page = docs / "reliability.md"
    page.write_text(render(results))
    readme = docs.parent / "README.md"
    readme.write_text(with_line(readme.read_text(), results))
    return page


def with_line(readme: str, results: Results) -> str:
    return re.sub(r"- \*\*Measured reliability\*\*:(?:.*\n(?:  .*\n)*)", headline(results), readme)


def headline(results: Results) -> str:
    """Returns the line of the README."""
    played = sum(each.times for each in results.faults.values())
    wrong = results.broken
    lost, repeated = wrong[Promise.LOST.name], wrong[Promise.REPEATED.name]
    disordered = wrong[Promise.DISORDERED.name] + wrong[Promise.SKIPPED.name]
    return (
        f"- **Measured reliability**: {results.acknowledged:,} messages were acknowledged while {len(results.faults)} "
        f"kinds of faults\n  were played {played:,} times; {lost} were lost, {repeated} repeated and {disordered} out "
        "of order\n"
        "  ([the campaign, and how to repeat it](docs/reliability.md)).\n"
    )


def render(results: Results) -> str:
    parts = [
        _text("introduction"),
        _summary(results),
        _promises(results),
        _faults(results),
        _clients(results),
        _workloads(results),
    ]
    return "\n".join(
        [*parts, _text("how"), _found(results), _text("not_covered"), _missing(results), _sessions(results)]
    )


def _text(name: str) -> str:
    return (Path(__file__).parent / "texts" / f"{name}.md").read_text()


def _summary(results: Results) -> str:
    played = sum(each.times for each in results.faults.values())
    aims = (
        f"The campaign aims at {MESSAGES:,} messages and at {PLAYS} plays of each fault; it goes on where it was ended "
        "(`make chaos ARGS='--seconds 3600'`)."
    )
    rows = [
        ("messages acknowledged", results.acknowledged),
        ("messages given by pulls", results.given),
        ("pulls answered", results.pages),
        ("rounds", results.rounds),
        ("faults played", played),
        ("times that two were played at once", results.pairs),
        (
            "lost with a disk of Redis that was wiped or restored, not archived yet, as documented",
            results.lost_with_disk,
        ),
        (
            "stored again after such a loss, or because a replica took over without it before it was acknowledged",
            results.stored_again,
        ),
    ]
    lines = ["| | |", "| --- | ---: |", *(f"| {name} | {value:,} |" for name, value in rows)]
    return f"{aims}\n\n" + "\n".join(lines) + "\n"


def _promises(results: Results) -> str:
    promises = {promise.name: promise.value for promise in Promise}
    lines = [f"| {name.lower()} | {what} | {results.broken[name]:,} |" for name, what in promises.items()]
    others = sorted(results.broken.keys() - promises.keys())
    lines += [f"| {name} | in all rounds | {results.broken[name]:,} |" for name in others]
    return _PROMISES + "\n".join(lines) + "\n"


def _faults(results: Results) -> str:
    lines = [
        "## Faults\n",
        "Times are seconds from the end of the fault, median and longest, where it was played alone and nothing else",
        "ran on the machine. *Silence* is the longest time without any 204, the fault itself included. What was broken",
        "in a round counts for each fault of it.\n",
        "| fault | played | acknowledged | lost | repeated | out of order | other "
        "| first 204 | first pull | full speed | silence |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    what = faults()
    for name in what:
        if name in results.faults:
            lines.append(_row(name, results.faults[name]))
    lines += ["", *(f"- **{name}**: {each.what}" for name, each in what.items())]
    return "\n".join(lines) + "\n"


def _row(name: str, played: Played) -> str:
    named = [Promise.LOST.name, Promise.REPEATED.name, Promise.DISORDERED.name, Promise.SKIPPED.name]
    lost, repeated, disordered, skipped = (played.broken[each] for each in named)
    other = sum(played.broken.values()) - lost - repeated - disordered - skipped
    counts = [played.times, played.acknowledged, lost, repeated, disordered + skipped, other]
    times = [_times(played.measured[each]) for each in ("first_204", "first_pull", "full_speed", "silent")]
    return "| " + " | ".join([name, *(f"{count:,}" for count in counts), *times]) + " |"


def _times(values: list[float]) -> str:
    return f"{statistics.median(values):.1f}, {max(values):.1f}" if values else ""


def _clients(results: Results) -> str:
    lines = [
        "## What callers saw meanwhile\n",
        "Answers to hook calls from the begin of each fault to that of the next one. Everything but 204 was tried",
        "again until 204 came.\n",
        "| fault | 204 | 503 | 429 | broken connections | others |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, played in results.faults.items():
        known = ("204", "503", "429", "broken connection")
        others = sum(played.statuses.values()) - sum(played.statuses[each] for each in known)
        row = [*(f"{played.statuses[each]:,}" for each in known), f"{others:,}"]
        lines.append(f"| {name} | " + " | ".join(row) + " |")
    return "\n".join(lines) + "\n"


def _workloads(results: Results) -> str:
    lines = ["## Workloads\n", "| what went on | rounds | |", "| --- | ---: | --- |"]
    for kind in workloads():
        lines.append(f"| {kind.name} | {results.workloads[kind.name]:,} | {' '.join((kind.__doc__ or '').split())} |")
    return "\n".join(lines) + "\n"


def _found(results: Results) -> str:
    lines = [_text("found")]
    if results.rounds_broken:
        lines += ["Rounds in which something was broken:\n", *(f"- {each}" for each in results.rounds_broken), ""]
    return "\n".join(lines)


def _missing(results: Results) -> str:
    lines = []
    unplayed = [name for name in faults() if results.of(name).times == 0]
    seldom = [name for name in faults() if 0 < results.of(name).times < PLAYS]
    if results.not_possible:
        names = ", ".join(results.not_possible)
        lines.append(
            f"Could not be made on the machine of the last session, which may not mount small disks: {names}.\n"
        )
    if unplayed:
        lines.append(f"Not played yet: {', '.join(unplayed)}.\n")
    if seldom:
        lines.append(f"{len(seldom)} of {len(faults())} faults were played less than {PLAYS} times so far.\n")
    return "\n".join(lines)


def _sessions(results: Results) -> str:
    lines = ["## Sessions\n", "| began | seed | rounds | minutes | acknowledged | version | machine |"]
    lines.append("| --- | --- | ---: | ---: | ---: | --- | --- |")
    for each in results.sessions:
        row = (each.began, each.seed, each.rounds, f"{each.seconds / 60:.0f}", f"{each.acknowledged:,}")
        lines.append("| " + " | ".join(map(str, row)) + f" | {each.commit} | {each.machine} |")
    return "\n".join(lines) + "\n"
