"""Documentation strings of Python's library and of tofro's core dependencies, read from disk with ``ast``.

In: the packages installed here; none of them is imported. Out: one ``Module`` per source file or help topic, with its cleaned
strings. The list of packages is fixed, so that two machines with the same versions get the same text; one that is absent is
named in ``missing``. Left out: duplicates, which are each user's to judge, and strings that only compiled code holds.
"""

from __future__ import annotations

import ast
import gc
import importlib.metadata
import importlib.util
import json
import os
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from tofro.progress import Progress
from tofro.text.cache import write_cache
from tofro.text.fingerprint import hash_json
from tofro.text.pydoc_clean import Paragraphs, clean_docstring
from tofro.text.sentences import splitter_version

VERSION = 3  # raise it whenever other text would come out of the same packages
STDLIB = "stdlib"
# What every installation of tofro carries: its own dependencies and the two that torch always brings; package -> distribution.
PACKAGES = {
    "torch": "torch",
    "pytorch_lightning": "pytorch-lightning",
    "torchmetrics": "torchmetrics",
    "numpy": "numpy",
    "scipy": "scipy",
    "sklearn": "scikit-learn",
    "matplotlib": "matplotlib",
    "hydra": "hydra-core",
    "omegaconf": "omegaconf",
    "rich": "rich",
    "jinja2": "jinja2",
    "tokenizers": "tokenizers",
    "safetensors": "safetensors",
    "wandb": "wandb",
    "sympy": "sympy",
    "networkx": "networkx",
}
_SKIPPED = {
    "test",
    "tests",
    "testing",
    "_vendor",
    "_vendored",
    "vendor",
    "vendored",
    "externals",
    "extern",
    "site-packages",
    "dist-packages",
    "idlelib",
    "lib2to3",
    "_bundled",
    "pydoc_data",
    "turtledemo",
    "__pycache__",
}
_ADDERS = {"add_newdoc", "add_docstr", "add_docstr_all", "_add_docstr", "add_newdoc_for_scalar_type"}
_LEAST_SHARE = 0.08  # of a file between triple quotes; a fifth of all code lies below it, with 5% of the prose, and parsing costs


@dataclass(frozen=True)
class Entry:
    """One documentation string.

    ``kind`` is module, class, method, property, function, topic, or added (written beside compiled code); ``signature`` is
    ``name(argument, argument)`` of functions and methods, less ``self``; ``paragraphs`` are lists of sentences, and so are
    ``details``, which explain parameters and results.
    """

    kind: str
    name: str
    signature: str
    paragraphs: Paragraphs
    details: Paragraphs


@dataclass(frozen=True)
class Module:
    """The documentation strings of one source file or help topic, in source order; ``name`` is its dotted path."""

    package: str
    name: str
    entries: list[Entry]


def fingerprint_pydoc() -> str:
    """Return the sha256 of all that decides the text: versions of Python, the packages, the splitter and this extraction."""
    versions = {package: _version(distribution) for package, distribution in PACKAGES.items()}
    return hash_json([VERSION, sys.version.split()[0], splitter_version(), versions])


def missing_packages() -> list[str]:
    """Return the packages of the list that are not installed."""
    return [package for package, distribution in PACKAGES.items() if _version(distribution) is None]


def extract(cache: Path | None = None, progress: Progress | None = None, workers: int | None = None) -> list[Module]:
    """Return all modules that hold prose, sorted by package and name.

    ``cache`` is a folder that keeps them between runs; ``progress`` is told (files done, files in all); ``workers`` are
    processes, by default one per core, at most two. A cache that can't be read whole is made anew.
    """
    path = None if cache is None else cache / f"pydoc-{fingerprint_pydoc()[:16]}.jsonl"
    if path is not None and (cached := _read_cache(path)) is not None:
        return cached
    files = sorted(_find_files(), key=lambda file: -file[2].stat().st_size)  # large ones first, dealt out in turn
    workers = workers or min(2, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    told = _Tally(len(files), progress)
    if workers == 1:
        modules = [module for file in files if (module := told.count(read_module(*file))) is not None]
    else:
        parts = [files[worker::workers] for worker in range(workers)]
        with ThreadPoolExecutor(workers) as pool:
            modules = [module for part in pool.map(lambda part: _read_in_child(part, told), parts) for module in part]
    modules = sorted([*modules, *_topics()], key=lambda module: (module.package != STDLIB, module.package, module.name))
    if path is not None:
        lines = [_to_json(module) for module in modules]
        write_cache(path, "\n".join([*lines, json.dumps({"modules": len(lines)})]) + "\n")
    return modules


def read_module(package: str, name: str, path: Path) -> Module | None:
    """Return the cleaned strings of one source file, or None where it holds none or is no valid source (templates are not)."""
    source = path.read_bytes()
    if _quoted(source) < _LEAST_SHARE * len(source):
        return None
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError):
        return None
    entries = [Entry(kind, own, signature, *clean_docstring(raw)) for kind, own, signature, raw in _strings(tree, name)]
    entries = [entry for entry in entries if entry.paragraphs or entry.details]
    return Module(package, name, entries) if entries else None


def _quoted(source: bytes) -> int:
    """Return about how many bytes stand between triple quotes, without parsing."""
    return max(sum(map(len, source.split(mark)[1::2])) for mark in (b'"""', b"'''"))


def work() -> None:
    """Serve a parent process: [package, name, path] on each line of standard input, a module or ``null`` out for each."""
    gc.disable()  # trees hold no cycles, and collecting among millions of nodes takes a third of the time
    files = [json.loads(line) for line in sys.stdin]
    for package, name, path in files:
        module = read_module(package, name, Path(path))
        sys.stdout.write((_to_json(module) if module else "null") + "\n")


class _Tally:
    """Counts finished files, from several threads, for a progress display."""

    def __init__(self, total: int, progress: Progress | None) -> None:
        self.total, self.progress, self.done, self.lock = total, progress, 0, Lock()

    def count(self, module: Module | None) -> Module | None:
        with self.lock:
            self.done += 1
            if self.progress is not None and (self.done % 50 == 0 or self.done == self.total):
                self.progress(self.done, self.total)
        return module


def _read_in_child(files: Sequence[tuple[str, str, Path]], told: _Tally) -> list[Module]:
    """Read files in a process of its own: a fresh one, for a fork of a process that runs torch's threads may hang."""
    command = [sys.executable, "-c", "from tofro.text.pydoc_extract import work; work()"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path), "PYTHONIOENCODING": "utf-8"}
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8", env=environment)  # noqa: S603
    assert child.stdin is not None
    assert child.stdout is not None
    with child:
        try:
            for package, name, path in files:
                child.stdin.write(json.dumps([package, name, str(path)]) + "\n")
            child.stdin.close()
            modules = [told.count(_from_json(line)) for line in child.stdout]
        except BaseException:
            child.kill()
            raise
    if child.returncode != 0 or len(modules) != len(files):
        raise RuntimeError(f"reading documentation strings failed in a child process (exit code {child.returncode})")
    return [module for module in modules if module is not None]


def _find_files() -> Iterator[tuple[str, str, Path]]:
    """Yield (package, dotted module name, path) of every source file that is read."""
    library = Path(sysconfig.get_paths()["stdlib"])
    roots = [(STDLIB, path) for name in sorted(sys.stdlib_module_names) for path in (library / name, library / f"{name}.py")]
    for package, distribution in PACKAGES.items():
        spec = importlib.util.find_spec(package) if _version(distribution) is not None else None
        roots += [(package, Path(folder)) for folder in (spec.submodule_search_locations or ()) if spec] if spec else []
    for package, root in roots:
        for path in [root] if root.is_file() else sorted(root.rglob("*.py")):
            parts = path.relative_to(root.parent).with_suffix("").parts
            if not _SKIPPED & set(parts):
                yield package, ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def _strings(tree: ast.Module, name: str) -> Iterator[tuple[str, str, str, str]]:
    """Yield (kind, name, signature, raw string) of a module in source order."""
    if raw := ast.get_docstring(tree, clean=False):
        yield "module", name, "", raw
    yield from _nested(tree.body, in_class=False)


def _nested(body: Sequence[ast.stmt], in_class: bool) -> Iterator[tuple[str, str, str, str]]:
    for node in body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            raw = ast.get_docstring(node, clean=False)
            if isinstance(node, ast.ClassDef):
                if raw:
                    yield "class", node.name, "", raw
                yield from _nested(node.body, in_class=True)
            elif raw:
                yield _function_kind(node, in_class), node.name, _signature(node, in_class), raw
        elif isinstance(node, ast.If | ast.Try):
            yield from _nested(node.body, in_class)
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            yield from _added(node.value)


def _added(call: ast.Call) -> Iterator[tuple[str, str, str, str]]:
    """Yield the strings that calls such as ``add_newdoc`` attach to compiled functions; short ones are names."""
    function = call.func
    called = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    if called in _ADDERS:
        for node in ast.walk(call):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and len(node.value) > 60:
                yield "added", "", "", node.value


def _function_kind(node: ast.FunctionDef | ast.AsyncFunctionDef, in_class: bool) -> str:
    names = {getattr(decorator, "attr", getattr(decorator, "id", "")) for decorator in node.decorator_list}
    return (
        "function" if not in_class else "property" if any("property" in name or name == "setter" for name in names) else "method"
    )


def _signature(node: ast.FunctionDef | ast.AsyncFunctionDef, in_class: bool) -> str:
    arguments = node.args
    named = [*arguments.posonlyargs, *arguments.args, *([arguments.vararg] if arguments.vararg else []), *arguments.kwonlyargs]
    names = [argument.arg for argument in [*named, *([arguments.kwarg] if arguments.kwarg else [])]]
    if in_class and names and names[0] in ("self", "cls"):
        names = names[1:]
    return f"{node.name}({', '.join(names)})"


def _topics() -> list[Module]:
    """Return the help topics of the language reference, a document each; a build of Python may lack them."""
    try:
        from pydoc_data.topics import topics
    except ImportError:
        return []
    entries = [Entry("topic", name, "", *clean_docstring(text)) for name, text in sorted(topics.items())]
    return [Module(STDLIB, f"pydoc_data.topics.{entry.name}", [entry]) for entry in entries if entry.paragraphs]


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _to_json(module: Module) -> str:
    entries = [[entry.kind, entry.name, entry.signature, entry.paragraphs, entry.details] for entry in module.entries]
    return json.dumps([module.package, module.name, entries])


def _from_json(line: str) -> Module | None:
    value = json.loads(line)
    return None if value is None else Module(value[0], value[1], [Entry(*entry) for entry in value[2]])


def _read_cache(path: Path) -> list[Module] | None:
    """Return the modules of a cache file, or None unless it is there and whole: its last line counts the others."""
    try:
        *lines, last = path.read_text(encoding="utf-8").splitlines()
        if json.loads(last) != {"modules": len(lines)}:
            return None
        return [module for line in lines if (module := _from_json(line)) is not None]
    except (OSError, ValueError, TypeError, IndexError, KeyError):
        return None
