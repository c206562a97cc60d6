"""Each part of the package imports only from the parts to its left, wherever the import stands."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "flatgrad"

RULES = {
    "_version", "errors", "activations", "activations_numba", "vector_math", "checkpointing",
    "hooks", "ir", "options", "primitives",
}  # fmt: skip
STAGES = RULES | {"frontend", "analysis", "transform", "codegen", "backends"}
CALLS = STAGES | {
    "derivatives", "pipeline", "signature", "tangents", "returned", "inspection", "callers",
    "compiled_calls", "columns", "linear_maps", "derived", "deriving", "structures", "examples",
    "fast_path", "shortcut", "specialisation", "into", "api", "jacobians", "modes",
}  # fmt: skip

# A module or folder of the package, and what it may import besides itself.
MAY_IMPORT: dict[str, set[str]] = {
    "_version": set(),
    "errors": set(),
    "collector": set(),
    "exclusive": {"collector"},
    "activations": set(),  # and of other packages only NumPy
    "activations_numba": {"activations"},
    "vector_math": set(),  # and of other packages only NumPy
    "checkpointing": {"errors"},
    "hooks": {"errors"},
    "options": {"errors"},
    "ir": {"errors"},
    "primitives": {"errors", "activations", "hooks", "ir"},
    "frontend": RULES,
    "analysis": RULES,
    "transform": RULES | {"analysis"},
    "codegen": RULES,
    "backends": {"_version", "errors", "activations", "activations_numba", "optim"}
    | {"collector"},  # never IR
    "derivatives": RULES | {"analysis", "transform"},
    "compiled_passes": STAGES,
    "pipeline": STAGES | {"derivatives", "compiled_passes"},
    "columns": RULES | {"analysis", "transform", "derivatives"},
    "structures": {"errors", "ir"},
    "optim": {"errors", "ir", "structures"},
    "signature": STAGES | {"pipeline", "structures"},
    "specialisation": STAGES | {"pipeline", "signature"},
    "examples": STAGES | {"signature", "structures"},
    "fast_path": {"ir", "signature", "structures"},
    "returned": STAGES,
    "tangents": RULES,
    "inspection": STAGES | {"pipeline", "signature"},
    "shortcut": {"fast_path"},
    "callers": STAGES
    | {"pipeline", "signature", "structures", "inspection", "returned", "fast_path", "shortcut"},
    "compiled_calls": STAGES | {"collector", "pipeline", "signature", "structures"},
    "into": STAGES
    | {"derivatives", "pipeline", "signature", "structures", "callers", "fast_path"}
    | {"specialisation", "exclusive"},
    "linear_maps": RULES
    | {"derivatives", "columns", "returned", "callers", "structures", "tangents"},
    "derived": (CALLS - {"deriving", "api", "jacobians", "modes"}) | {"exclusive"},
    "deriving": CALLS - {"api", "jacobians", "modes"},
    "api": CALLS - {"jacobians", "modes"},
    "jacobians": CALLS - {"modes"},
    "modes": CALLS,
    "sparse_structure": {"errors", "observations"},
    "sparse_loop": {"codegen", "observations", "sparse_structure"},
    "observations": STAGES | {"derivatives", "pipeline"},
    "sparse": CALLS | {"exclusive", "observations", "sparse_loop", "sparse_structure"},
    "differences": set(),
    "testing": {"errors", "ir", "api", "differences", "structures"},
    "teach": CALLS,
    "cli": CALLS | {"testing", "teach", "__init__"},
    "__init__": CALLS | {"collector", "testing", "optim", "sparse"},
}
ONLY_IN = {"astor": "codegen/format.py", "numba": "backends/"}


def imported_names(tree: ast.AST, folder: list[str]) -> Iterator[tuple[int, str]]:
    """Line and absolute dotted name of every import that can execute, at any depth."""
    match tree:
        case ast.If(test=ast.Name("TYPE_CHECKING") | ast.Attribute(attr="TYPE_CHECKING")):
            children = tree.orelse
        case ast.Import():
            yield from ((tree.lineno, alias.name) for alias in tree.names)
            return
        case ast.ImportFrom():
            base = folder[: len(folder) + 1 - tree.level] if tree.level else []
            stem = ".".join([*base, *filter(None, [tree.module])])
            yield from ((tree.lineno, f"{stem}.{alias.name}") for alias in tree.names)
            return
        case _:
            children = list(ast.iter_child_nodes(tree))
    for child in children:
        yield from imported_names(child, folder)


def violations(package: Path) -> Iterator[str]:
    parts = {path.stem for path in package.iterdir()}
    for path in sorted(package.rglob("*.py")):
        where = path.relative_to(package).as_posix()
        part = where.split("/")[0].removesuffix(".py")
        if path.name == "utils.py":
            yield f"{where}: name the file after what it does"
        if part not in MAY_IMPORT:
            yield f"{where}: `{part}` has no layer: give it a line in MAY_IMPORT"
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        folder = ["flatgrad", *where.split("/")[:-1]]
        for line, name in imported_names(tree, folder):
            target, *inner = name.split(".")
            if target == "flatgrad":
                target = inner[0] if inner and inner[0] in parts else "__init__"
                allowed = target == part or target in MAY_IMPORT[part]
            elif part in ("activations", "vector_math"):
                allowed = target in sys.stdlib_module_names | {"numpy"}
            else:
                allowed = where.startswith(ONLY_IN.get(target, ""))
            if not allowed:
                yield f"{where}:{line}: `{part}` may not import `{target}`"


def test_parts_import_only_to_their_left():
    assert (PACKAGE / "__init__.py").exists()
    assert list(violations(PACKAGE)) == []


@pytest.mark.parametrize(
    ("where", "statement"),
    [
        ("frontend/lower.py", "import flatgrad.codegen"),
        ("codegen/emit.py", "from flatgrad.transform.reverse import reverse"),
        ("analysis/tbr.py", "from ..transform import reverse"),
        ("backends/python.py", "def load():\n    from flatgrad.ir.ops import Value"),
        ("ir/ops.py", "from flatgrad import grad"),
        ("testing.py", "from . import pipeline"),
        ("pipeline.py", "import numba"),
        ("codegen/emit.py", "import astor"),
        ("activations.py", "import scipy.special"),
        ("helpers.py", ""),
        ("ir/utils.py", ""),
    ],
)
def test_violation_is_found(tmp_path, where, statement):
    for part in MAY_IMPORT:
        (tmp_path / f"{part}.py").touch()
    file = tmp_path / where
    file.parent.mkdir(exist_ok=True)
    file.write_text(statement)
    assert len(list(violations(tmp_path))) == 1
