"""Small changes to code that a good test suite notices, made on the syntax tree."""

import ast
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from typing import Final

_COMPARE: Final[dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
_OPERATOR: Final[dict[type[ast.operator], type[ast.operator]]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.BitXor: ast.BitOr,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
}
_NAMES: Final = {
    "min": "max",
    "max": "min",
    "any": "all",
    "all": "any",
    "maximum": "minimum",
    "minimum": "maximum",
    "left": "right",
    "right": "left",
}


_Step = tuple[str, int | None]
_Path = tuple[_Step, ...]
_Changer = Callable[[ast.AST], None]
_Change = tuple[str, _Changer]


@dataclass(frozen=True)
class Mutant:
    """One change: where it is, what it does, and when the changed code runs."""

    line: int
    what: str
    lines: range
    """The lines of its statement (without the body, if it has one): who runs one runs it."""
    at_import: bool
    """Whether it stands outside every function, or where `super()` binds a method to its class."""
    _source: ast.Module
    _path: _Path
    _change: _Changer

    def tree(self) -> ast.Module:
        """Return the changed source as a tree of its own."""
        copy = deepcopy(self._source)
        self._change(_at(copy, self._path))
        return ast.fix_missing_locations(copy)


def mutants_of(source: str) -> Iterator[Mutant]:
    """Yield every mutant of a module's source, in the order of its lines.

    Annotations, decorators, docstrings, assertions and the words of error messages stay as they
    are: they change nothing that a caller can rely on.
    """
    tree = ast.parse(source)
    for path, node in _places(tree):
        for what, change in _changes(node):
            lines, at_import = _reached_by(tree, path)
            yield Mutant(getattr(node, "lineno", 0), what, lines, at_import, tree, path, change)


def _reached_by(tree: ast.AST, path: _Path) -> tuple[range, bool]:
    """Return the lines of a place's innermost statement, and whether they run at import."""
    lines, at_import, binds = range(0), True, False
    node = tree
    for name, index in path:
        if isinstance(node, ast.FunctionDef) and name == "body":
            at_import = False
        child = getattr(node, name)
        node = child if index is None else child[index]
        if isinstance(node, ast.stmt):
            lines = range(node.lineno, _end_of_head(node) + 1)
            binds = not hasattr(node, "body") and _calls_super(node)
    return lines, at_import or binds


def _calls_super(statement: ast.stmt) -> bool:
    return any(isinstance(node, ast.Name) and node.id == "super" for node in ast.walk(statement))


def _end_of_head(statement: ast.stmt) -> int:
    """Return the last line of a statement, without the statements in it."""
    if isinstance(statement, ast.Match):
        return statement.subject.end_lineno or statement.lineno
    body = getattr(statement, "body", None)
    if body:
        return max(statement.lineno, int(body[0].lineno) - 1)
    return statement.end_lineno or statement.lineno


def _at(tree: ast.AST, path: _Path) -> ast.AST:
    for name, index in path:
        child = getattr(tree, name)
        tree = child if index is None else child[index]
    return tree


def _places(node: ast.AST, path: _Path = ()) -> Iterator[tuple[_Path, ast.AST]]:
    yield path, node
    for name, value in ast.iter_fields(node):
        if name in _left_alone(node):
            continue
        children = value if isinstance(value, list) else [value]
        for index, child in enumerate(children):
            if isinstance(child, ast.AST) and not _is_docstring(child):
                step = (name, index if isinstance(value, list) else None)
                yield from _places(child, (*path, step))


def _left_alone(node: ast.AST) -> tuple[str, ...]:
    """Return the fields of a node that no mutant changes."""
    match node:
        case ast.AnnAssign() | ast.arg():
            return ("annotation",)
        case ast.FunctionDef() | ast.ClassDef():
            return ("decorator_list", "returns", "keywords", "bases")
        case ast.Assert() | ast.JoinedStr():
            return tuple(node._fields)
        case ast.Raise():
            return ("exc", "cause")
    return ()


def _is_docstring(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _changes(node: ast.AST) -> Iterator[_Change]:
    match node:
        case ast.Compare(ops=[*_, op]):
            for other in _COMPARE[type(op)]:
                yield f"{type(op).__name__} -> {other.__name__}", _setting("ops", [
                    *node.ops[:-1], other()
                ])  # fmt: skip
        case ast.BinOp() | ast.AugAssign() if type(node.op) in _OPERATOR:
            swapped = _OPERATOR[type(node.op)]
            yield f"{type(node.op).__name__} -> {swapped.__name__}", _setting("op", swapped())
        case ast.BoolOp():
            other_op = ast.Or if isinstance(node.op, ast.And) else ast.And
            yield f"{type(node.op).__name__} -> {other_op.__name__}", _setting("op", other_op())
        case ast.UnaryOp(op=ast.Not() | ast.Invert()):
            yield "without its negation", _becoming(node.operand)
        case ast.Constant():
            yield from _constant_changes(node)
        case ast.Name(id=name) | ast.Attribute(attr=name) if name in _NAMES:
            field = "id" if isinstance(node, ast.Name) else "attr"
            yield f"{name} -> {_NAMES[name]}", _setting(field, _NAMES[name])
        case ast.If() | ast.While() | ast.IfExp():
            yield "condition negated", _setting("test", ast.UnaryOp(ast.Not(), node.test))
        case ast.Return(value=ast.expr() as value) if not _is_none(value):
            yield "returns None", _setting("value", ast.Constant(None))
        case ast.Expr(value=ast.Call()) | ast.Raise() | ast.Continue() | ast.Break() | ast.Delete():
            yield f"without this {type(node).__name__}", _becoming(ast.Pass())
        case ast.AugAssign() | ast.Assign(targets=[ast.Attribute() | ast.Subscript()]):
            yield "without this assignment", _becoming(ast.Pass())


def _constant_changes(node: ast.Constant) -> Iterator[_Change]:
    value = node.value
    if isinstance(value, bool):
        yield f"{value} -> {not value}", _setting("value", not value)
    elif isinstance(value, int):
        yield f"{value} -> {value + 1}", _setting("value", value + 1)
    elif isinstance(value, str | bytes) and value:
        other = value + (b"X" if isinstance(value, bytes) else "X")  # type: ignore[operator]
        yield f"{value!r} -> {other!r}", _setting("value", other)


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _setting(field: str, value: object) -> Callable[[ast.AST], None]:
    return lambda node: setattr(node, field, value)


def _becoming(other: ast.AST) -> Callable[[ast.AST], None]:
    def change(node: ast.AST) -> None:
        node.__class__ = other.__class__
        fresh = deepcopy(other)
        for field in other._fields:
            setattr(node, field, getattr(fresh, field))

    return change
