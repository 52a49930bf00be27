"""What holds of the code as a whole: the direction of imports, and docs that say what the code says."""

import ast
import re
from collections import Counter
from pathlib import Path

import pytest

from corrsteer_core.correlation.feature_columns import COLUMNS
from corrsteer_core.storage.schema import MIGRATIONS

ROOT = Path(__file__).parents[2]
CORE = sorted((ROOT / "corrsteer_core").rglob("*.py"))
APP = sorted((ROOT / "app").rglob("*.py"))

# From the bottom up: a room may import those before it, anywhere in a file, never those after.
ROOMS = (
    "base",
    "tasks",
    "statistics",
    "correlation",
    "storage",
    "runs",
    "reporting",
    "models",
    "saes",
    "workers",
    "engine",
    "evaluation",
    "inspection",
    "method",
    "proof",
    "api",
    "cli",
)
WITHOUT_TORCH = ROOMS[:7]
APP_ROOMS = ("shared", "overview", "start", "features", "steer", "evaluate", "blind", "report")


LONGEST_MODULE = 350
"""Lines of a file, blank ones and comments included."""
LONGEST_FUNCTION = 50
"""Lines from `def` to the last of its body, signature, docstring and functions within included, decorators not."""
FULLEST_FOLDER = 15
"""Modules of a folder, `__init__.py` and folders within not counted."""


def imported(path):
    """The modules that a file imports, each by its full name."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def module_name(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room_of(name):
    """The room of a module of the core or the app; None for what stands beside the rooms."""
    parts = name.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in (*ROOMS, *APP_ROOMS) else None


@pytest.mark.parametrize("path", CORE, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_core_knows_neither_the_app_nor_streamlit(path):
    assert not {name.split(".")[0] for name in imported(path)} & {"streamlit", "app"}


def test_every_folder_of_the_core_is_a_room():
    folders = {path.name for path in (ROOT / "corrsteer_core").iterdir() if (path / "__init__.py").exists()}
    assert folders == set(ROOMS)


def test_imports_between_rooms_go_one_way():
    rank = {room: place for place, room in enumerate(ROOMS)}
    wrong = []
    for path in CORE:
        own = room_of(module_name(path))
        others = {room_of(name) for name in imported(path) if name.startswith("corrsteer_core.")} - {None}
        wrong += [f"{module_name(path)} imports from {other}" for other in others if own and rank[other] > rank[own]]
    assert wrong == []


def test_pages_of_the_app_share_through_the_shared_room_alone():
    wrong = []
    for path in APP:
        own = room_of(module_name(path))
        others = {room_of(name) for name in imported(path) if name.startswith("app.")} - {None, own, "shared"}
        wrong += [f"{module_name(path)} imports from {other}" for other in others if own]
    assert wrong == []


@pytest.mark.parametrize("files", [CORE, APP], ids=["core", "app"])
def test_no_modules_import_each_other_in_a_circle(files):
    known = {module_name(path): path for path in files}
    imports = {name: {other for other in imported(path) if other in known} for name, path in known.items()}
    done: set[str] = set()

    def walk(name, above):
        assert name not in above, f"a circle: {' -> '.join([*above[above.index(name) :], name])}"
        if name not in done:
            for other in sorted(imports[name]):
                walk(other, [*above, name])
            done.add(name)

    for name in known:
        walk(name, [])


def test_the_map_for_contributors_names_the_rooms_in_the_order_of_imports():
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)/` \|", page, re.MULTILINE)
    assert tuple(rows) == ROOMS


def test_what_contributors_add_touches_one_file_that_is_there():
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([\w ]+) \| (.*) \| `(tests/.*)` \|$", page.split("## To add a")[1], re.MULTILINE)
    assert {kind for kind, _, _ in rows} >= {
        "architecture", "task", "strategy", "export format", "page", "pooling", "statistics column", "SAE format"
    }  # fmt: skip
    for kind, touched, test in rows:
        assert (ROOT / test).exists(), kind
        files = [one for one in re.findall(r"`([\w/]+(?:\.py|/))`", touched) if "/" in one and "/data/" not in one]
        assert len(files) == (2 if kind == "command" else 1), (kind, files)
        for file in files:
            assert (ROOT / file).exists() or (ROOT / "corrsteer_core" / file).exists(), file


@pytest.mark.parametrize("room", WITHOUT_TORCH)
def test_the_first_rooms_do_not_name_torch(room):
    for path in (ROOT / "corrsteer_core" / room).rglob("*.py"):
        top = ast.parse(path.read_text(encoding="utf-8")).body
        for node in top:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not {name.split(".")[0] for name in names} & {"torch", "transformers", "sae_lens"}, path


@pytest.mark.parametrize("path", APP, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_app_holds_no_sql_and_no_pickle(path):
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"\bSELECT\b.*\bFROM\b", text)
    assert not {name.split(".")[0] for name in imported(path)} & {"duckdb", "pickle", "scipy"}


@pytest.mark.parametrize("path", CORE, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_pickle_and_no_remote_code(path):
    assert not {name.split(".")[0] for name in imported(path)} & {"pickle", "joblib", "dill"}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.keyword):
            assert not (node.arg == "trust_remote_code" and getattr(node.value, "value", True) is not False)
        if isinstance(node, ast.Call) and re.match(r"Auto\w+\.from_pretrained$", ast.unparse(node.func)):
            # Left out, transformers asks at the keyboard whether to run the code that comes with a model.
            assert any(keyword.arg == "trust_remote_code" for keyword in node.keywords), ast.unparse(node)


def test_the_schema_page_describes_the_columns_of_features():
    page = (ROOT / "docs" / "schema.md").read_text(encoding="utf-8")
    section = page.split("## features\n")[1].split("\n## ")[0]
    said = re.findall(r"^\| `(\w+)` \| (\w+) \| (.*) \|$", section, re.MULTILINE)
    assert said[3:] == [(column.name, column.kind, column.what) for column in COLUMNS.values()]


def test_the_schema_page_names_every_table_and_column():
    page = (ROOT / "docs" / "schema.md").read_text(encoding="utf-8")
    for table in re.finditer(r"CREATE TABLE (\w+) \((.*?)\n    \);", "".join(MIGRATIONS), re.DOTALL):
        assert f"## {table[1]}" in page
        section = page.split(f"## {table[1]}\n")[1].split("\n## ")[0]
        columns = re.findall(r"^        (\w+) [A-Z]", table[2], re.MULTILINE)
        assert columns
        for column in columns:
            assert f"| `{column}` |" in section, f"{table[1]}.{column} is not described"
    for table, column in re.findall(r"ALTER TABLE (\w+) ADD COLUMN (\w+)", "".join(MIGRATIONS)):
        assert f"| `{column}` |" in page.split(f"## {table}\n")[1].split("\n## ")[0], (
            f"{table}.{column} is not described"
        )


def too_large(folder):
    """What is longer or fuller than it may be, below a folder: a sentence each."""
    files = sorted(folder.rglob("*.py"))
    for path in files:
        text = path.read_text(encoding="utf-8")
        if (lines := len(text.splitlines())) > LONGEST_MODULE:
            yield f"{path.name} has {lines} lines"
        for node in ast.walk(ast.parse(text)):
            lines = node.end_lineno - node.lineno + 1 if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) else 0
            if lines > LONGEST_FUNCTION:
                yield f"{node.name} in {path.name} has {lines} lines"
    for inner, number in Counter(path.parent for path in files if path.name != "__init__.py").items():
        if number > FULLEST_FOLDER:
            yield f"{inner.name} has {number} modules"


@pytest.mark.parametrize("folder", ["corrsteer_core", "app"])
def test_no_module_function_or_folder_is_too_large(folder):
    assert list(too_large(ROOT / folder)) == []


def test_what_is_too_large_is_found(tmp_path):
    lines = ["@staticmethod", "def longest(", "    a,", "):", *["    a += 1"] * 47]
    module = tmp_path / "module.py"
    module.write_text("\n".join([*lines, *["# said"] * (LONGEST_MODULE - len(lines))]) + "\n")
    for number in range(FULLEST_FOLDER - 1):
        (tmp_path / f"other{number}.py").touch()
    (tmp_path / "__init__.py").touch()
    (tmp_path / "within").mkdir()
    (tmp_path / "within" / "one_more.py").touch()
    assert list(too_large(tmp_path)) == []  # all just as large as they may be
    lines.append("    return a")
    module.write_text("\n".join(["async " * (line.startswith("def")) + line for line in lines]) + "\n")
    (tmp_path / "within" / "long.py").write_text("x = 1\n" * (LONGEST_MODULE + 1))
    (tmp_path / "other15.py").touch()
    assert list(too_large(tmp_path)) == [
        "longest in module.py has 51 lines",
        "long.py has 351 lines",
        f"{tmp_path.name} has 16 modules",
    ]
