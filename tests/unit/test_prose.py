"""Keeps phrases out of documents, docstrings and comments that readers of English as a second language stumble over."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = (".ci", "clients", "deploy", "docs", "emqx-rules", "hooks", "store", "tests")
NOT_OURS = (
    *("node_modules", ".venv", "clients/js/build", "clients/js/dist"),
    *("tests/recorded", "deploy/helm/emqx-im/charts", "tests/unit/test_prose.py"),
)

START = r"(?:^|(?<=\. ))"
"""Where a sentence begins."""

PATTERNS = {
    r"\b(?:[Hh]e|[Hh]is|[Hh]im|[Hh]imself)\b(?!-)": "users are they",
    rf"{START}Of (?!course)": "a sentence begins with its subject or a verb, not with `Of`",
    r"\b[Ll]ikewise\b": "say again what holds here, too",
    r"\bso many at most\b": "`at most that many`",
    rf"{START}For so long\b": "say how long",
    rf"{START}Whoever\b": "name the subject: users, clients, members",
    rf"{START}Who (?:was|is|had|has|comes|connects|waits|asks|follows|begins|begin|finds)\b(?![^.]*\?)": (
        "name the subject: users, clients, members"
    ),
    r"\bas good as nothing\b": "say what remains",
    r"\bof one's own\b": "`a separate …`",
    r"\bis no [a-z]+ that\b": "`is not a … that`",
    r"\bis no (?:channel|device|error|matter|name|news|sign|stranger|stream|uid|user)\b": "`is not a …`",
}
ANY = re.compile("|".join(f"(?:{pattern})" for pattern in PATTERNS))
"""Looked for first, as nearly no line has any of them."""

_DASHES, _HASH = re.compile(r"(?:^|\s)--+\s+(.*)"), re.compile(r"(?:^|\s)#+\s+(.*)")
_SLASHES = re.compile(r"(?:^|\s)(?://+|/\*+|\*)\s+(.*?)(?:\s*\*/)?$")
COMMENTS = {
    **dict.fromkeys((".lua", ".sql"), _DASHES),
    **dict.fromkeys((".yaml", ".toml", ".hocon", ".in", ".tpl"), _HASH),
    **dict.fromkeys((".ts", ".js", ".mjs", ".css"), _SLASHES),
    ".conf": re.compile(r"(?:^|\s)(?:#+|%%+)\s+(.*)"),
    # Scripts, Dockerfile and Makefile, in which the help of each verb is a comment, too.
    "": _HASH,
}
"""The part of a line behind the mark of a comment, by the suffix of the file."""


def files(*suffixes: str) -> Iterator[Path]:
    found = [ROOT.glob("*.md"), ROOT.glob("Makefile"), *(ROOT.joinpath(room).rglob("*") for room in ROOMS)]
    for path in sorted({path for each in found for path in each if path.suffix in suffixes}):
        if not any(part in path.relative_to(ROOT).as_posix() for part in NOT_OURS) and path.is_file():
            yield path


SENTENCE = re.compile(r"[A-Za-z`][^\n]* [^\n]* [^\n]* ")
"""A string that somebody reads: help, descriptions, errors, and lines of the log."""


def prose_of_python(text: str, with_texts: bool) -> Iterator[tuple[int, str]]:
    """Yields the lines of docstrings (those of attributes, too), comments and texts, with their numbers."""
    tree = ast.parse(text)
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Constant) or not isinstance(node.value, str):
            continue
        if id(node) in docstrings or (with_texts and SENTENCE.search(node.value)):
            yield from enumerate(map(str.strip, node.value.splitlines()), node.lineno)
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string.lstrip("# ")


def prose(path: Path) -> Iterator[tuple[int, str]]:
    """Yields the numbers and texts of the lines of a file that are prose."""
    text = path.read_text()
    match path.suffix:
        case ".py":
            yield from prose_of_python(text, with_texts=ROOT / "tests" not in path.parents)
        case ".md":
            yield from ((number, line.strip("|- ")) for number, line in enumerate(text.splitlines(), 1))
        case _:
            for number, line in enumerate(text.splitlines(), 1):
                if comment := COMMENTS[path.suffix].search(line):
                    yield number, comment[1]


def wrong(lines: Iterator[tuple[int, str]]) -> list[str]:
    return [
        f"{number}: {line} ({reason})"
        for number, line in lines
        if ANY.search(line)
        for pattern, reason in PATTERNS.items()
        if re.search(pattern, line)
    ]


@pytest.mark.parametrize("suffix", [".md", ".py", *COMMENTS])
def test_prose_is_plain(suffix: str) -> None:
    looked_at = list(files(suffix))
    assert looked_at
    assert [f"{path.relative_to(ROOT)}:{each}" for path in looked_at for each in wrong(prose(path))] == []


@pytest.mark.parametrize(
    "line",
    [
        "The message lies in his inbox.",
        "It is read. Of a group, the members are told.",
        "Likewise.",
        "The oldest messages, so many at most.",
        "Whoever comes is let in.",
        "Who was kicked joins again when invited.",
        "A page that is no page that a client knows.",
        "Whatever is no device of theirs.",
    ],
)
def test_each_of_these_is_found(line: str) -> None:
    assert len(wrong(iter([(1, line)]))) == 1
