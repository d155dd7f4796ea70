"""A public top-level name has a user outside its module, or stands in the signature of a name that has one."""

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PRODUCT = ("vqmon", "pipelines", "models")
USERS = (*PRODUCT, "tests", "bench")
ALWAYS_PUBLIC = {"main", "log", "logger"}
"""Entry points and loggers."""
GENERATORS = {"write_schemas"}
"""Called by hand to regenerate the files in config/schemas."""


def module_name(path: Path) -> str:
    """The dotted name of a module."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def parse_modules() -> dict[str, ast.Module]:
    """Every module of the product, its tests and its benches, by name."""
    return {
        module_name(path): ast.parse(path.read_text(encoding="utf-8"))
        for folder in USERS
        for path in sorted((ROOT / folder).rglob("*.py"))
    }


def used_names(trees: dict[str, ast.Module]) -> dict[str, set[str]]:
    """Module -> its names that another module imports, reads as attributes of the module, or patches by a string."""
    used: dict[str, set[str]] = defaultdict(set)
    for tree in trees.values():
        nodes = list(ast.walk(tree))
        modules = imported_modules(nodes)
        for node in nodes:
            if isinstance(node, ast.ImportFrom) and node.module:
                used[node.module] |= {name.name for name in node.names}
            elif isinstance(node, ast.Attribute):
                used[modules.get(ast.unparse(node.value), "")].add(node.attr)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                module, _, name = node.value.rpartition(".")
                used[module if module in trees else ""].add(name)
    return used


def imported_modules(nodes: list[ast.AST]) -> dict[str, str]:
    """Local name -> what it was imported as, for every import that may be one of a module."""
    modules = {}
    for node in nodes:
        if isinstance(node, ast.ImportFrom):
            modules |= {name.asname or name.name: f"{node.module}.{name.name}" for name in node.names}
        elif isinstance(node, ast.Import):
            modules |= {name.asname or name.name: name.name for name in node.names}
    return modules


def top_level(tree: ast.Module) -> Iterator[tuple[str, ast.stmt]]:
    """The functions, classes and variables of a module."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name, node
        elif isinstance(node, ast.Assign):
            yield from ((target.id, node) for target in node.targets if isinstance(target, ast.Name))
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id, node


def signature_names(node: ast.AST) -> set[str]:
    """The names in a signature, in fields and public methods, or in a type alias and a table."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return names_in(node.args) | (names_in(node.returns) if node.returns else set())
    if isinstance(node, ast.ClassDef):
        parts: list[ast.AST] = [*node.bases]
        parts += [member.annotation for member in node.body if isinstance(member, ast.AnnAssign)]
        methods = [member for member in node.body if isinstance(member, ast.FunctionDef | ast.AsyncFunctionDef)]
        public = [method for method in methods if not method.name.startswith("_") or method.name == "__init__"]
        return set().union(*map(names_in, parts), *map(signature_names, public))
    return names_in(node)


def names_in(node: ast.AST) -> set[str]:
    """All names in an expression, those in quoted annotations too."""
    names = {child.id for child in ast.walk(node) if isinstance(child, ast.Name)}
    for child in ast.walk(node):
        if (
            isinstance(child, ast.Constant)
            and isinstance(child.value, str)
            and child.value.strip("[]| ,.").isidentifier()
        ):
            names.add(child.value)
    return names


def is_registered(node: ast.stmt) -> bool:
    """Whether a decorator such as `@group.command()` hands the name to somebody."""
    decorators = getattr(node, "decorator_list", [])
    return any("." in ast.unparse(decorator).partition("(")[0] for decorator in decorators)


def test_public_names_have_a_user() -> None:
    """Everything else begins with an underscore."""
    trees = parse_modules()
    used = used_names(trees)
    unused = []
    for module, tree in trees.items():
        if not module.startswith(PRODUCT) or module.endswith("__main__"):
            continue
        public = {name: node for name, node in top_level(tree) if not name.startswith("_")}
        needed = {name for name, node in public.items() if name in used[module] or is_registered(node)}
        needed |= public.keys() & (ALWAYS_PUBLIC | GENERATORS)
        while more := {name for user in needed for name in signature_names(public[user])} & public.keys() - needed:
            needed |= more
        unused += [f"{module}.{name}" for name in sorted(public.keys() - needed)]

    assert unused == []
