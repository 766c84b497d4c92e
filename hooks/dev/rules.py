"""Evaluates the broker's rules, `emqx-rules/*.sql`, as EMQX's rule engine does; sqlglot parses them. It understands
only what the files use. Anything else, and what EMQX itself would refuse or never fire, stops the start.
"""

import operator
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.resources.abc import Traversable
from typing import Any

import orjson
import sqlglot
import structlog
from sqlglot import exp
from sqlglot.errors import ParseError, SqlglotError

from hooks.dev import EmbeddedError
from hooks.dev.events import COLUMNS, NEVER_FIRED, PRODUCED, Columns, EventMessage
from hooks.dev.patterns import compiled
from hooks.dev.republish import Republish
from hooks.dev.topics import matches, valid_filter
from hooks.dev.values import FUNCTIONS, boolean, compared, number, regex_match
from hooks.emqx.rules import files as rule_files

log = structlog.get_logger(__name__)

Scope = dict[str, Any]
Expression = Callable[[Scope], Any]


@dataclass(frozen=True)
class EvaluatedRule:
    """One file. `fields` are the selected names with what makes their values.

    What is selected goes to the service, and `hook` names the request's path, or is published as `republish` says.
    """

    name: str
    hook: str
    republish: Republish | None
    filters: tuple[str, ...]
    events: frozenset[str]
    fields: tuple[tuple[str, Expression], ...]
    where: Expression

    def wants(self, columns: Columns) -> bool:
        if columns["event"] == "message.publish":
            return any(matches(columns["topic"], pattern) for pattern in self.filters)
        return columns["event"] in self.events

    def select(self, columns: Columns) -> dict[str, Any] | None:
        """Returns the selected columns, or None if the WHERE is false or, as in EMQX, an expression fails."""
        scope = {**columns, "metadata": {"rule_id": self.name}}
        selected: dict[str, Any] = {}
        try:
            for name, value in self.fields:
                selected[name] = value(scope)
                if selected[name] is not None:
                    scope[name] = selected[name]
            scope.update(selected)
            return selected if self.where(scope) else None
        except (TypeError, ValueError, IndexError) as error:
            log.warning("rule_failed", rule=self.name, on=columns["event"], error=str(error))
            return None


@dataclass(frozen=True)
class EvaluatedRules:
    """All rules, in the order of their files' names."""

    rules: tuple[EvaluatedRule, ...]

    @classmethod
    def load(cls, directory: Traversable, *, trusted_send: bool = False) -> "EvaluatedRules":
        """Raises EmbeddedError naming the file and what in it is not supported."""
        republish = Republish.read(rule_files.republish(directory)) if trusted_send else None
        files = rule_files.sql_files(directory, trusted_send=trusted_send)
        return cls(tuple(parse(file.name, file.read_text("utf-8"), republish) for file in files))

    def calls(self, columns: Columns) -> Iterator[tuple[str, bytes]]:
        """Yields for each rule that fires on the event its hook, and the JSON body of the request."""
        for rule in self.rules:
            if rule.republish is None and rule.wants(columns) and (selected := rule.select(columns)) is not None:
                body = {name: _jsonable(value) for name, value in selected.items()}
                yield rule.hook, orjson.dumps(body)

    def copies(self, columns: Columns) -> Iterator[EventMessage]:
        """Yields what the rules republish of the event."""
        for rule in self.rules:
            if rule.republish is not None and rule.wants(columns) and (selected := rule.select(columns)) is not None:
                yield rule.republish.message(rule.name, selected)


def _jsonable(value: Any) -> Any:
    """Converts a value as EMQX does: no value is the string "undefined", bytes that are not UTF-8 are replaced."""
    if value is None:
        return "undefined"
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def parse(name: str, sql: str, republish: Republish | None = None) -> EvaluatedRule:
    """Returns one rule from its file's name and text. republish: what a rule that names this action does."""
    bare = _QUOTED_OR_COMMENT.sub(" ", sql)
    refused = _NOT_SQL_OF_EMQX.search(bare)
    if refused:
        raise EmbeddedError(f"{name}: not supported: {refused[0]}")
    verb = bare.split(maxsplit=1)[0] if bare.strip() else "an empty file"
    if verb.upper() != "SELECT":
        raise EmbeddedError(f"{name}: not supported: {verb}")
    try:
        statements = sqlglot.parse(sql)
    except ParseError as error:
        first = error.errors[0]
        raise EmbeddedError(f"{name} line {first['line']}: not supported: {first['highlight']}") from None
    except SqlglotError as error:
        raise EmbeddedError(f"{name}: {str(error).splitlines()[0]}") from None
    select = statements[0]
    if not isinstance(select, exp.Select):
        raise EmbeddedError(f"{name}: not supported: a rule is one plain SELECT")
    if not _REPUBLISHES.search(sql):
        republish = None
    return _Compiler(name).rule(select, republish)


_QUOTED_OR_COMMENT = re.compile(r"""'(?:[^']|'')*'|"[^"]*"|--[^\n]*""")
_REPUBLISHES = re.compile(rf"^-- Action: {rule_files.REPUBLISH}$", re.MULTILINE)
_NOT_SQL_OF_EMQX = re.compile(r"/\*|\*/|;|=~|==|\|\||&&")


class _Compiler:
    """Turns the syntax tree of one file into functions of an event's columns."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.known = set(COLUMNS)

    def rule(self, select: exp.Select, republish: Republish | None) -> EvaluatedRule:
        self.only(select, "expressions", "from_", "joins", "where")
        sources = self.sources(select)
        fields = tuple(self.field(expression) for expression in select.expressions)
        where = select.args.get("where")
        return EvaluatedRule(
            name=self.name.removesuffix(".sql"),
            hook=self.hook(select) if republish is None else "",
            republish=republish,
            filters=tuple(source for source in sources if not source.startswith("$events/")),
            events=frozenset(PRODUCED[source] for source in sources if source in PRODUCED),
            fields=fields,
            where=self.condition(where.this) if where else lambda scope: True,
        )

    def hook(self, select: exp.Select) -> str:
        for expression in select.expressions:
            if expression.alias == "hook" and isinstance(expression.this, exp.Literal) and expression.this.is_string:
                return str(expression.this.this)
        raise EmbeddedError(f"{self.name}: selects no constant `hook`, which names the path of the request")

    def sources(self, select: exp.Select) -> list[str]:
        """Returns what FROM names: topic filters and events."""
        source = select.args.get("from_")
        if source is None:
            raise EmbeddedError(f"{self.name}: no FROM")
        for join in select.args.get("joins") or ():
            self.only(join, "this")
        tables = [source.this, *(join.this for join in select.args.get("joins") or ())]
        for table in tables:
            if not isinstance(table, exp.Table) or not isinstance(table.this, exp.Identifier):
                raise self.unsupported(table)
            self.only(table, "this")
            topic = valid_filter(table.name) and not table.name.startswith("$")
            if not table.this.args["quoted"] or not (topic or table.name in PRODUCED or table.name in NEVER_FIRED):
                raise EmbeddedError(f'{self.name}: FROM "{table.name}": no topic filter, no event of the broker')
        return [table.name for table in tables]

    def field(self, expression: exp.Expr) -> tuple[str, Expression]:
        if isinstance(expression, exp.Alias):
            self.only(expression, "this", "alias")
            value = self.value(expression.this)
            self.known.add(expression.alias)
            return expression.alias, value
        if isinstance(expression, exp.Column):
            return expression.name, self.value(expression)
        raise EmbeddedError(f"{self.name}: needs a name (AS …): {expression.sql(comments=False)}")

    def condition(self, node: exp.Expr) -> Expression:
        """Returns what may stand in WHERE."""
        match node:
            case exp.Paren():
                return self.condition(node.this)
            case exp.And() | exp.Or():
                left, right = self.condition(node.left), self.condition(node.right)
                if isinstance(node, exp.And):
                    return lambda scope: left(scope) and right(scope)
                return lambda scope: left(scope) or right(scope)
            case exp.Not():
                # EMQX takes what stands under NOT as a value; AND and OR are none: such a rule never fires.
                value = self.value(node.this)
                return lambda scope: value(scope) is False
            case exp.Column() | exp.Literal():
                raise self.unsupported(node)
        value = self.value(node)
        return lambda scope: boolean(value(scope))

    def value(self, node: exp.Expr) -> Expression:
        match node:
            case exp.Column():
                return self.column(node)
            case exp.Literal():
                constant = node.this if node.is_string else number(node.this)
                return lambda scope: constant
            case exp.Paren():
                return self.value(node.this)
            case exp.Array():
                self.only(node, "expressions", "value_constructor", "bracket_notation")
                items = [self.value(item) for item in node.expressions]
                return lambda scope: [item(scope) for item in items]
            case exp.Anonymous():
                return self.call(node, node.name, node.expressions)
            case exp.Case():
                return self.case(node)
            case exp.Substring():
                self.only(node, "this", "start")
                return self.call(node, "substr", [node.this, node.args["start"]])
            case exp.Concat():
                self.only(node, "expressions", "safe", "coalesce")
                return self.call(node, "concat", node.expressions)
            case exp.Base64Encode():
                self.only(node, "this")
                return self.call(node, "base64_encode", [node.this])
        compare = _COMPARISONS.get(type(node))
        if compare is None:
            raise self.unsupported(node)
        left, right = self.value(node.this), self.value(node.expression)
        return lambda scope: compared(compare, left(scope), right(scope))

    def case(self, node: exp.Case) -> Expression:
        """`CASE WHEN … THEN … ELSE … END`; without ELSE it is `undefined`."""
        self.only(node, "ifs", "default")
        branches = [(self.condition(branch.this), self.value(branch.args["true"])) for branch in node.args["ifs"]]
        default = node.args.get("default")
        otherwise = self.value(default) if default is not None else lambda scope: None

        def chosen(scope: Scope) -> Any:
            return next((value for condition, value in branches if condition(scope)), otherwise)(scope)

        return chosen

    def column(self, node: exp.Column) -> Expression:
        self.only(node, "this")
        name = node.name
        if not isinstance(node.this, exp.Identifier) or node.this.args["quoted"]:
            raise self.unsupported(node)
        if name not in self.known:
            raise EmbeddedError(f"{self.name}: no event has a column `{name}`")
        return lambda scope: scope.get(name)

    def call(self, node: exp.Expr, name: str, arguments: list[exp.Expr]) -> Expression:
        if name == "regex_match":
            return self.regex_match(node, arguments)
        function, arities = FUNCTIONS.get(name, (None, ()))
        if function is None:
            raise EmbeddedError(f"{self.name}: function not supported: {name}")
        if len(arguments) not in arities:
            raise EmbeddedError(f"{self.name}: wrong number of arguments: {node.sql(comments=False)}")
        values = [self.value(argument) for argument in arguments]
        return lambda scope: function(*(value(scope) for value in values))

    def regex_match(self, node: exp.Expr, arguments: list[exp.Expr]) -> Expression:
        """Compiles a call of `regex_match`. The pattern must be a constant, so that it is checked at the start."""
        match arguments:
            case [text, exp.Literal(is_string=True) as constant]:
                value, pattern = self.value(text), compiled(constant.this, self.name)
                return lambda scope: regex_match(value(scope), pattern)
        raise self.unsupported(node)

    def only(self, node: exp.Expr, *arguments: str) -> None:
        """Refuses a node that carries more than these parts."""
        for key, value in node.args.items():
            if value and key not in arguments:
                part = key.strip("_").upper()
                raise EmbeddedError(f"{self.name}: not supported: {part} in {node.sql(comments=False)[:120]}")

    def unsupported(self, node: exp.Expr) -> EmbeddedError:
        return EmbeddedError(f"{self.name}: not supported: {node.sql(comments=False)}")


_COMPARISONS: dict[type[exp.Expr], Callable[[Any, Any], bool]] = {
    exp.EQ: operator.eq,
    exp.NEQ: operator.ne,
    exp.LT: operator.lt,
    exp.LTE: operator.le,
    exp.GT: operator.gt,
    exp.GTE: operator.ge,
}
