"""What the package shows to the outside, and that its parts stay small."""

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import vqmon
from vqmon import errors

ROOT = Path(__file__).parents[1]
SOURCES = sorted(path for folder in ("vqmon", "pipelines", "models") for path in (ROOT / folder).rglob("*.py"))


def test_all_is_sorted_and_complete() -> None:
    """`__all__` names exactly what can be imported from the package, in order."""
    public = {name for name, value in vars(vqmon).items() if not name.startswith("_") and not inspect.ismodule(value)}

    assert vqmon.__all__ == sorted(vqmon.__all__)
    assert public == set(vqmon.__all__)


def test_every_error_is_drawn_in_the_tree() -> None:
    """The docstring of `errors` names every error class, and all descend from VqmonError."""
    classes = [value for value in vars(errors).values() if inspect.isclass(value) and issubclass(value, Exception)]

    assert all(issubclass(kind, vqmon.VqmonError) for kind in classes)
    assert all(kind.__name__ in (errors.__doc__ or "") for kind in classes)


def test_every_module_says_what_it_holds() -> None:
    """Each module opens with a docstring and has at most 600 lines."""
    for path in SOURCES:
        text = path.read_text(encoding="utf-8")

        assert ast.get_docstring(ast.parse(text)), f"{path}: no docstring"
        assert text.count("\n") <= 600, f"{path}: {text.count(chr(10))} lines"


def test_no_folder_is_a_crowd() -> None:
    """A folder has at most nine modules and sub-packages, except those that grow by one module per kind."""
    growing = {ROOT / "vqmon", ROOT / "vqmon/core/alerts/conditions", ROOT / "vqmon/web/pages"}
    for folder in {path.parent for path in SOURCES} - growing:
        rooms = [path for path in folder.glob("*.py") if path.name != "__init__.py"]
        rooms += [path for path in folder.iterdir() if (path / "__init__.py").exists()]

        assert len(rooms) <= 9, f"{folder}: {len(rooms)} rooms"


def test_every_function_is_short() -> None:
    """No function has more than 45 lines, its docstring included."""
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                doc = ast.get_docstring(node)

                assert lines - (doc.count("\n") + 2 if doc else 0) <= 45, (
                    f"{path}:{node.lineno} {node.name}: {lines} lines"
                )


def test_the_daemon_never_loads_the_torch_side() -> None:
    """Importing everything the daemon runs brings in neither torch nor models nor a second heavy library."""
    code = (
        "import sys, pipelines.daemon.one_host, pipelines.fleet.worker\n"
        "from pipelines.commands import replay, score, serve_web\n"
        "from pipelines.commands.installation import check\n"
        "heavy = ('torch', 'onnx', 'decord', 'transformers', 'timm', 'models', 'av', 'pyarrow')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)

    assert run.stdout.strip() == "[]"
