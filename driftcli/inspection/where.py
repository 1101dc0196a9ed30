"""A filter on rows, as `depth == 3 and feed == "forced" and not match`: comparisons of columns with numbers and words, and nothing else.

The words are Python's: == != < <= > >=, `in (...)`, `not in (...)`, `is None`, `is not None`, and, or, not, parentheses. A row whose
column is null is in no comparison. It is read as a tree and turned into an Arrow expression; nothing is ever evaluated.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable

import pyarrow as pa
import pyarrow.compute as pc

from driftcli.errors import UsageError
from driftcli.printable import one_line
from driftcli.suggestions import meant

LONGEST = 1000  # characters of a filter (chosen by us), below which Python's parser is never at its end
COMPARED: dict[type[ast.cmpop], Callable[..., pc.Expression]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
EXAMPLE = "a filter such as: depth == 3 and feed == 'forced' and not match"
Value = bool | int | float | str


def admitting(text: str, schema: pa.Schema) -> pc.Expression:
    """The rows that a filter in words admits, as an Arrow expression over a table's columns; raises UsageError saying what is wrong."""
    if len(text) > LONGEST:
        raise UsageError(f"--where: {len(text)} characters, expected at most {LONGEST}; use --sql for more")
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        single = "; write == for equality" if "=" in text.replace("==", "") else ""
        raise UsageError(f"--where {one_line(text, 60)}: cannot be read{single}; expected {EXAMPLE}") from error
    return _Filter(text, schema).expression(tree)


class _Filter:
    def __init__(self, text: str, schema: pa.Schema) -> None:
        self.text, self.schema = text, schema

    def expression(self, node: ast.expr) -> pc.Expression:
        """A condition on rows: a comparison, a truth column, or several joined."""
        if isinstance(node, ast.BoolOp):
            parts = [self.expression(one) for one in node.values]
            joined = parts[0]
            for part in parts[1:]:
                joined = joined & part if isinstance(node.op, ast.And) else joined | part
            return joined
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            return ~self.expression(node.operand)
        if isinstance(node, ast.Compare):
            return self._compared(node)
        if isinstance(node, ast.Name) and pa.types.is_boolean(self._type(node)):
            return pc.field(node.id)
        raise self._wrong(node, "is no comparison")

    def _compared(self, node: ast.Compare) -> pc.Expression:
        """One comparison, or several in a row, as 1 < depth <= 3."""
        sides, found = [node.left, *node.comparators], []
        for left, compare, right in zip(sides, node.ops, sides[1:], strict=False):
            found.append(self._pair(node, left, compare, right))
        whole = found[0]
        for one in found[1:]:
            whole = whole & one
        return whole

    def _pair(self, node: ast.expr, left: ast.expr, compare: ast.cmpop, right: ast.expr) -> pc.Expression:
        if not isinstance(left, ast.Name) and isinstance(right, ast.Name) and type(compare) in COMPARED:
            mirrored = {ast.Lt: ast.Gt, ast.LtE: ast.GtE, ast.Gt: ast.Lt, ast.GtE: ast.LtE}
            left, compare, right = right, mirrored.get(type(compare), type(compare))(), left
        if not isinstance(left, ast.Name):
            raise self._wrong(node, "compares no column")
        kind, column = self._type(left), pc.field(left.id)
        if isinstance(compare, ast.Is | ast.IsNot) and isinstance(right, ast.Constant) and right.value is None:
            return column.is_null() if isinstance(compare, ast.Is) else ~column.is_null()
        if isinstance(compare, ast.In | ast.NotIn) and isinstance(right, ast.Tuple | ast.List):
            among = column.isin([self._value(one, left.id, kind) for one in right.elts])
            return among if isinstance(compare, ast.In) else ~among
        if type(compare) not in COMPARED:
            raise self._wrong(node, "is no comparison")
        if isinstance(right, ast.Name):
            self._type(right)
            return COMPARED[type(compare)](column, pc.field(right.id))
        return COMPARED[type(compare)](column, self._value(right, left.id, kind))

    def _type(self, node: ast.Name) -> pa.DataType:
        """The type of a column; UsageError for a name of none, or for one of lists."""
        if node.id not in self.schema.names:
            raise UsageError(
                f"--where: no column {one_line(node.id, 60)}; {meant(node.id, self.schema.names)}expected {', '.join(self.schema.names)}"
            )
        kind = self.schema.field(node.id).type
        if pa.types.is_list(kind) or pa.types.is_binary(kind):
            raise UsageError(f"--where: {node.id} holds {kind} and cannot be compared; use --sql")
        return kind

    def _value(self, node: ast.expr, column: str, kind: pa.DataType) -> Value:
        """A number, word or truth that a column may be compared with."""
        negative = isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub)
        inner = node.operand if isinstance(node, ast.UnaryOp) and negative else node
        value = inner.value if isinstance(inner, ast.Constant) else None
        wanted = "a truth" if pa.types.is_boolean(kind) else "a word in quotes" if pa.types.is_string(kind) else "a number"
        fits = {"a truth": bool, "a word in quotes": str}.get(wanted, int | float)
        if not isinstance(value, fits) or (isinstance(value, bool) != (wanted == "a truth")):
            raise self._wrong(node, f"is compared with {column}, which takes {wanted}")
        if isinstance(value, int | float) and abs(value) > 1 << 62:
            raise self._wrong(node, "is too large")
        return -value if negative and isinstance(value, int | float) else value  # type: ignore[return-value]

    def _wrong(self, node: ast.expr, why: str) -> UsageError:
        part = ast.get_source_segment(self.text.strip(), node) or self.text
        return UsageError(f"--where: {one_line(part, 60)} {why}; expected {EXAMPLE}")
