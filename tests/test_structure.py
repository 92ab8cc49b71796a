"""The names of the package, read from its files. Sizes are held by `test_layout.py`; layers, halves and
circles by import-linter."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path

import pytest

import turnstream

PACKAGE = Path(turnstream.__file__).parent
TESTS = Path(__file__).parent

VAGUE = {"util", "utils", "helper", "helpers", "common", "manager", "managers", "handler", "handlers", "misc"}
"""Words that say nothing of a thing. They are not words of a name."""
IRREGULAR = [
    "bound",
    "broken",
    "built",
    "caught",
    "chosen",
    "closed",
    "cut",
    "done",
    "drawn",
    "dropped",
    "fed",
    "found",
    "given",
    "gone",
    "grown",
    "held",
    "hidden",
    "kept",
    "known",
    "left",
    "lost",
    "made",
    "open",
    "put",
    "read",
    "said",
    "seen",
    "sent",
    "set",
    "shown",
    "split",
    "stuck",
    "taken",
    "told",
    "torn",
    "unsent",
    "won",
    "written",
]
"""Participles without the ending -ed."""
PARTICIPLE = re.compile(rf"\w*[^e]ed|{'|'.join(IRREGULAR)}")
ADJECTIVES = {"Fenced", "Interrupted", "Overloaded", "Unauthorized"}
"""Exceptions, named for the state that they report."""
ENDINGS = ("ings", "ing", "ers", "er", "ors", "or", "ions", "ion", "ment", "ed", "es", "s", "e", "y")
NAMED_IN_THE_LAYOUT = {("connecting", "connection")}
"""A connection, and how it is opened: the one pair whose likeness is meant."""


def modules_of(package: Path) -> dict[str, Path]:
    """Return the files of a package by the names of their modules."""
    return {
        ".".join(file.relative_to(package.parent).with_suffix("").parts).removesuffix(".__init__"): file
        for file in sorted(package.rglob("*.py"))
    }


MODULES = modules_of(PACKAGE)
TREES = {name: ast.parse(file.read_text(encoding="utf-8")) for name, file in MODULES.items()}


def folders(root: Path) -> Iterator[Path]:
    """Yield a folder and all below it, without caches."""
    yield root
    for entry in sorted(root.iterdir()):
        if entry.is_dir() and not entry.name.startswith((".", "__")):
            yield from folders(entry)


def class_places(trees: Mapping[str, ast.AST]) -> dict[str, list[str]]:
    """Return the modules in which each class name is defined."""
    places: defaultdict[str, list[str]] = defaultdict(list)
    for name, tree in trees.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                places[node.name].append(name)
    return dict(places)


def stem(name: str) -> str:
    """Return a name without its ending: `router`, `routing` → `rout`."""
    ending = next(
        (ending for ending in ENDINGS if name.endswith(ending) and len(name) - len(ending) >= 4), ""
    )
    return name.removesuffix(ending)


def alike(names: Sequence[str]) -> list[tuple[str, str]]:
    """Return the pairs of names that differ only by an ending."""
    return [pair for pair in combinations(sorted(names), 2) if stem(pair[0]) == stem(pair[1])]


def words_of(name: str) -> list[str]:
    return [word.lower() for word in re.findall(r"[A-Z]?[a-z0-9]+|[A-Z]+(?![a-z])", name)]


def test_each_class_name_exists_once():
    assert not {name: places for name, places in class_places(TREES).items() if len(places) > 1}


def is_participle(name: str) -> bool:
    """Return True for a participle without a noun: `Shown`, but not `ShownBlock`."""
    words = words_of(name)
    return len(words) == 1 and PARTICIPLE.fullmatch(words[0]) is not None


def test_classes_are_named_by_nouns():
    names = {name for name in class_places(TREES) if is_participle(name)}
    assert names <= ADJECTIVES, "participles without a noun"


def test_modules_are_named_by_nouns():
    names = {name for name in MODULES if is_participle(name.rpartition(".")[2])}
    assert names == {"turnstream.wires.shared"}, "participles without a noun"


def test_no_name_is_vague():
    vague = [name for name in MODULES if VAGUE & set(words_of(name))]
    vague += [name for name in class_places(TREES) if VAGUE & set(words_of(name))]
    assert not vague


@pytest.mark.parametrize("folder", list(folders(PACKAGE)), ids=lambda folder: folder.name)
def test_no_two_modules_of_a_folder_differ_only_by_an_ending(folder: Path):
    names = [entry.stem for entry in folder.iterdir() if entry.suffix == ".py" or entry.is_dir()]
    assert set(alike([name for name in names if not name.startswith("__")])) <= NAMED_IN_THE_LAYOUT


def test_the_tree_of_the_architecture_is_the_package():
    """Each folder is in the tree, and each module that the tree names exists."""
    text = (TESTS.parent / "ARCHITECTURE.md").read_text(encoding="utf-8")
    tree = text.partition("src/turnstream/\n")[2].partition("```")[0]
    tops = [line for line in tree.splitlines() if line.startswith("  ") and line[2] != " "]
    named = {line.split()[0] for line in tops}
    here = {f"{entry.name}/" if entry.is_dir() else entry.name for entry in PACKAGE.iterdir()}
    assert named == {name for name in here if not name.startswith("__pycache__") and name != "py.typed"}
    folder = ""
    for line in tree.splitlines():
        if line.startswith("  ") and line[2] != " ":
            folder = line.split()[0]
        for word in re.findall(r"[\w/]+\.py|[\w]+/", line):
            places = [PACKAGE / word, PACKAGE / folder / word, *(PACKAGE / folder).glob(f"*/{word}")]
            assert any(place.exists() for place in places), f"{folder} {word}"


class TestTheRulesThemselves:
    """The rules above find what they are for."""

    @pytest.mark.parametrize("name", ["Shown", "Kept", "_Broken", "Watched", "open"])
    def test_bare_participles(self, name: str):
        assert is_participle(name)

    @pytest.mark.parametrize("name", ["Block", "OpenCall", "written_value", "Routing", "_ShownBlock", "Feed"])
    def test_nouns(self, name: str):
        assert not is_participle(name)

    def test_endings(self):
        assert alike(["direct", "router", "routing", "turns"]) == [("router", "routing")]
        assert alike(["record", "recording", "base", "bases"]) == [("base", "bases"), ("record", "recording")]

    def test_words(self):
        assert words_of("store.SqlManager_utils") == ["store", "sql", "manager", "utils"]
