"""This project's source files: what they import, and whether they still compute the same."""

import ast
import hashlib
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

PROJECT = "pipeline"
ROOT = Path(__file__).parents[1]
# They carry and describe what stages compute: what they pass on is in a digest, or changes nothing.
PLUMBING = (
    "config",
    "errors",
    "graph",
    "log",
    "progress",
    "read_ahead",
    "redaction",
    "source_code",
    "storage",
    "tracking",
)
DIGITS = 8
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)

# By module: the digest of its file, and that of the file without comments and docstrings.
Code = Mapping[str, list[str]]


class SourceCode:
    """The code of modules. Each file is read once, however many stages import it."""

    def __init__(self) -> None:
        self._contents: dict[str, bytes] = {}
        self._named: dict[str, list[str]] = {}
        self._digests: dict[str, list[str]] = {}

    def of(self, module: str, chosen: Mapping[str, str]) -> dict[str, list[str]]:
        """The code of a stage's module: its own, and what it imports of the project.

        That is directly or through other modules, in any function, or as a text by which a worker
        imports (`pipeline.runtime.imported`); but not through plumbing. `chosen` says what a module
        loads besides by the choice of the config.
        """
        seen: set[str] = set()
        waiting = [module]
        while waiting:
            name = waiting.pop()
            if name in seen or _is_plumbing(name) or not self._content(name):
                continue
            seen.add(name)
            waiting += [*self._named_in(name), *([chosen[name]] if name in chosen else [])]
        return {name: self._digests_of(name) for name in sorted(seen)}

    def changed(self, recorded: Code) -> list[str]:
        """The modules that compute something else than when `recorded` was made, or are gone."""
        return [module for module, known in recorded.items() if not self._is_as(module, known)]

    def _is_as(self, module: str, known: list[str]) -> bool:
        content = self._content(module)
        return bool(content) and (
            _digest(content) == known[0] or self._digests_of(module)[1] == known[1]
        )

    def _digests_of(self, module: str) -> list[str]:
        if module not in self._digests:
            content = self._content(module)
            self._digests[module] = [_digest(content), _digest(_meaning(content))]
        return self._digests[module]

    def _named_in(self, module: str) -> list[str]:
        """What may be modules of the project, among all that a module imports or names."""
        if module not in self._named:
            tree = ast.parse(self._content(module))
            names = dict.fromkeys((*imported(tree), *_texts(tree)))
            self._named[module] = [name for name in names if name.partition(".")[0] == PROJECT]
        return self._named[module]

    def _content(self, module: str) -> bytes:
        """The text of a module's file; empty if there is none, or nothing in it."""
        if module not in self._contents:
            path = source(module)
            self._contents[module] = path.read_bytes() if path else b""
        return self._contents[module]


def imported(tree: ast.Module) -> Iterator[str]:
    """The modules that a file imports, and names in them that may be modules."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def source(module: str) -> Path | None:
    """The file of a module of the project, or of a user's that is imported by now."""
    path = ROOT.joinpath(*module.split("."))
    loaded = getattr(sys.modules.get(module), "__file__", None)
    candidates = (path.with_suffix(".py"), path / "__init__.py", Path(loaded or ""))
    return next((file for file in candidates if file.is_file()), None)


def _texts(tree: ast.Module) -> Iterator[str]:
    """Texts that may name a module: `pipeline.training.train_joint:train`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value.partition(":")[0]


def _is_plumbing(module: str) -> bool:
    project, _, rest = module.partition(".")
    return project == PROJECT and (not rest or rest.partition(".")[0] in PLUMBING)


def _meaning(content: bytes) -> bytes:
    """What a file says to Python: without comments, docstrings and the way it is set."""
    try:
        tree = ast.parse(content)
    except SyntaxError:
        return content
    for node in ast.walk(tree):
        if isinstance(node, DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:]
    return ast.dump(tree).encode()


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:DIGITS]
