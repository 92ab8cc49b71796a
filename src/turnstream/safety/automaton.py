"""The automaton that matches all patterns of a filter at once, one character at a time.

Patterns become a nondeterministic automaton (Thompson's construction). Its states are determinized when they
are first reached. A state holds the matches under way as groups in the order in which they began; each state
of the nondeterministic automaton is in the earliest group only, because a later match with the same state has
the same future. Work per character does not depend on the text.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from math import inf
from typing import NamedTuple

from turnstream.errors import ConfigurationError
from turnstream.safety.characters import CharacterSet, is_word
from turnstream.safety.patterns import (
    Alternatives,
    Boundary,
    BoundaryKind,
    Concatenation,
    Node,
    RepeatedNode,
    parse_pattern,
)

MAX_NODES = 20_000
"""Nodes of the nondeterministic automaton of all patterns together."""
MAX_STATES = 10_000
"""Determinized states that are kept. When there are more, all are made again as needed."""
MAX_CHARACTERS = 10_000
"""Characters whose columns are kept."""

END = -1
"""Column of the end of the text."""
NO_RULE = -1
MAX_UNCERTAIN = 4_096
"""Characters in which a match must become certain, or a partial match must end."""


class Transition(NamedTuple):
    """A step over one character.

    Attributes:
        accepted: Numbers of the rules that each group of the state before matches before the character.
        kept: Groups of the state before that continue, by their index. The state after may have one group
            more: the match that begins with the character.
        state: The state after.
        is_plain: True if no rule matches, and exactly the groups of the state before continue.
    """

    accepted: tuple[tuple[int, ...], ...]
    kept: tuple[int, ...]
    state: State
    is_plain: bool


class State:
    """A state of the determinized automaton: the groups under way, and the character before.

    Attributes:
        steps: Transitions that are known, by column.
    """

    __slots__ = ("after_word", "groups", "is_first", "steps")

    def __init__(self, groups: tuple[frozenset[int], ...], *, after_word: bool, is_first: bool) -> None:
        self.groups = groups
        self.after_word = after_word
        self.is_first = is_first
        self.steps: dict[int, Transition] = {}


class _Surroundings(NamedTuple):
    """The characters on both sides of a place, as far as boundaries depend on them."""

    after_word: bool
    before_word: bool
    is_first: bool
    is_last: bool

    def allows(self, kind: BoundaryKind) -> bool:
        """Return True if there is such a boundary."""
        match kind:
            case "b":
                return self.after_word != self.before_word
            case "B":
                return self.after_word == self.before_word
            case "^":
                return self.is_first
            case "$":
                return self.is_last


class Automaton:
    """Matches the patterns of several rules. Streams may share it, also in several threads.

    Raises ConfigurationError for a pattern that cannot be matched.

    Args:
        patterns: The pattern of each rule.
        bounded: Numbers of the rules whose matches have at most MAX_UNCERTAIN characters.
    """

    def __init__(self, patterns: Sequence[str], *, bounded: Collection[int] = ()) -> None:
        self._nodes = _Nodes()
        for number, pattern in enumerate(patterns):
            self._nodes.add_rule(parse_pattern(pattern), number, pattern, is_bounded=number in bounded)
        self._columns: dict[str, int] = {}
        self._states: dict[tuple[tuple[frozenset[int], ...], bool, bool], State] = {}
        self.first = self._state((), after_word=False, is_first=True)
        """State at the start of a text."""

    def after(self, character: str) -> State:
        """Return the state without matches under way, after `character`. Empty: at the start of a text."""
        if not character:
            return self.first
        return self._state((), after_word=is_word(character), is_first=False)

    def column(self, character: str) -> int:
        """Return the number of the class of a character. Characters of a class have the same transitions."""
        known = self._columns.get(character)
        if known is not None:
            return known
        column = int(is_word(character))
        for position, characters in enumerate(self._nodes.sets, 1):
            column |= characters.accepts(character) << position
        if len(self._columns) >= MAX_CHARACTERS:
            self._columns.clear()
        self._columns[character] = column
        return column

    def step(self, state: State, column: int) -> Transition:
        """Return the transition of a state over a character of `column`, or over the end of the text."""
        found = state.steps.get(column)
        if found is None:
            found = state.steps[column] = self._make(state, column)
        return found

    def _make(self, state: State, column: int) -> Transition:
        before_word = column != END and bool(column & 1)
        place = _Surroundings(state.after_word, before_word, state.is_first, column == END)
        nodes, seen = self._nodes, set[int]()
        accepted: list[tuple[int, ...]] = []
        kept: list[int] = []
        groups: list[frozenset[int]] = []
        taken: set[int] = set()
        for index, group in enumerate((*state.groups, frozenset((0,)))):
            reached = nodes.closure(group, place, seen)
            accepted.append(
                tuple(sorted({rule for node in reached if (rule := nodes.rules[node]) != NO_RULE}))
            )
            targets = frozenset(nodes.targets(reached, column)) - taken if column != END else frozenset[int]()
            if targets:
                taken |= targets
                kept.append(index)
                groups.append(targets)
        following = self._state(tuple(groups), after_word=before_word, is_first=False)
        del accepted[-1]
        is_plain = not any(accepted) and kept == list(range(len(state.groups)))
        return Transition(tuple(accepted), tuple(kept), following, is_plain)

    def _state(self, groups: tuple[frozenset[int], ...], *, after_word: bool, is_first: bool) -> State:
        key = (groups, after_word, is_first)
        found = self._states.get(key)
        if found is None:
            if len(self._states) >= MAX_STATES:
                self._forget()
            found = self._states[key] = State(groups, after_word=after_word, is_first=is_first)
        return found

    def _forget(self) -> None:
        """Drop all states. Streams keep those that they are in."""
        self.first.steps.clear()
        for state in self._states.values():
            state.steps.clear()
        self._states.clear()


class _Nodes:
    """The nondeterministic automaton. Node 0 is its start.

    Attributes:
        sets: Different sets of characters.
        rules: The rule that a node accepts, or NO_RULE.
    """

    def __init__(self) -> None:
        self.sets: list[CharacterSet] = []
        self.rules: list[int] = []
        self._numbers: dict[CharacterSet, int] = {}
        self._empty: list[list[tuple[BoundaryKind | None, int]]] = []
        self._reads: list[tuple[int, int] | None] = []
        self._add()

    def add_rule(self, tree: Node, rule: int, pattern: str, *, is_bounded: bool) -> None:
        """Add a pattern. Raises ConfigurationError if it is too large, or has no bound where it needs one."""
        known = len(self.rules)
        try:
            begin, end = self._build(tree)
        except OverflowError:
            raise ConfigurationError(
                f"the pattern {pattern!r} is too large: write smaller numbers in its repetitions"
            ) from None
        self._empty[0].append((None, begin))
        self.rules[end] = rule
        if begin in self._reaching(end, with_boundaries=True):
            raise ConfigurationError(
                f"the pattern {pattern!r} matches the empty text: a match needs at least one character"
            )
        certain = frozenset[int]() if is_bounded else self._reaching(end, with_boundaries=False)
        if self._longest(range(known, len(self.rules)), certain) > MAX_UNCERTAIN:
            raise ConfigurationError(
                f"the pattern {pattern!r} may need more than {MAX_UNCERTAIN:,} characters before a match is "
                "certain: write {0,100} in place of *, and {1,100} in place of +"
            )

    def closure(self, nodes: Iterable[int], place: _Surroundings, seen: set[int]) -> list[int]:
        """Return the nodes that `nodes` reach without a character, except those in `seen`.

        Add them to `seen`.
        """
        waiting = [node for node in nodes if node not in seen]
        seen.update(waiting)
        reached: list[int] = []
        while waiting:
            node = waiting.pop()
            reached.append(node)
            for kind, target in self._empty[node]:
                if target not in seen and (kind is None or place.allows(kind)):
                    seen.add(target)
                    waiting.append(target)
        return reached

    def targets(self, nodes: Sequence[int], column: int) -> list[int]:
        """Return the nodes after a character of `column`."""
        reads = [read for node in nodes if (read := self._reads[node]) is not None]
        return [target for characters, target in reads if column >> characters & 1]

    def _reaching(self, goal: int, *, with_boundaries: bool) -> frozenset[int]:
        """Return the nodes that reach `goal` without a character.

        Args:
            goal: Number of a node.
            with_boundaries: True: each boundary may be there. False: none is.
        """
        sources: dict[int, list[int]] = {}
        for node, edges in enumerate(self._empty):
            for kind, target in edges:
                if kind is None or with_boundaries:
                    sources.setdefault(target, []).append(node)
        found, waiting = {goal}, [goal]
        while waiting:
            new = [node for node in sources.get(waiting.pop(), ()) if node not in found]
            found.update(new)
            waiting += new
        return frozenset(found)

    def _longest(self, nodes: Iterable[int], certain: frozenset[int]) -> float:
        """Return the largest number of characters on a way from one of `nodes` to one of `certain`."""
        lengths: dict[int, float] = {}
        for node in nodes:
            if self._reads[node] is not None:
                self._measure(node, certain, lengths)
        return max(lengths.values(), default=0)

    def _measure(self, node: int, certain: frozenset[int], lengths: dict[int, float]) -> None:
        """Add the length from a node that reads a character, and from those after it, to `lengths`."""
        path = [(node, self._readers_after(node, certain))]
        open_nodes = {node}
        while path and node not in lengths:
            current, following = path[-1]
            waiting = next((one for one in following if one not in lengths), None)
            if waiting in open_nodes:
                lengths[node] = inf  # a circle
            elif waiting is not None:
                open_nodes.add(waiting)
                path.append((waiting, self._readers_after(waiting, certain)))
            else:
                lengths[current] = 1 + max((lengths[one] for one in following), default=0)
                open_nodes.discard(current)
                path.pop()

    def _readers_after(self, node: int, certain: frozenset[int]) -> list[int]:
        """Return the nodes that may read the next character. Empty if the match is certain before it."""
        read = self._reads[node]
        if read is None or read[1] in certain:
            return []
        found, waiting = {read[1]}, [read[1]]
        while waiting:
            new = [target for _, target in self._empty[waiting.pop()] if target not in found]
            found.update(new)
            waiting += new
        return [target for target in found if self._reads[target] is not None]

    def _add(self) -> int:
        if len(self.rules) >= MAX_NODES:
            raise OverflowError
        self.rules.append(NO_RULE)
        self._empty.append([])
        self._reads.append(None)
        return len(self.rules) - 1

    def _join(self, node: int, target: int, kind: BoundaryKind | None = None) -> None:
        self._empty[node].append((kind, target))

    def _build(self, tree: Node) -> tuple[int, int]:
        """Add the nodes of a tree. Return its first and its last node."""
        match tree:
            case CharacterSet():
                begin, end = self._add(), self._add()
                self._reads[begin] = (self._number(tree), end)
                return begin, end
            case Boundary():
                begin, end = self._add(), self._add()
                self._join(begin, end, tree.kind)
                return begin, end
            case Concatenation():
                begin = end = self._add()
                for node in tree.nodes:
                    first, last = self._build(node)
                    self._join(end, first)
                    end = last
                return begin, end
            case Alternatives():
                begin, end = self._add(), self._add()
                for node in tree.nodes:
                    first, last = self._build(node)
                    self._join(begin, first)
                    self._join(last, end)
                return begin, end
            case RepeatedNode():
                return self._repeat(tree)

    def _repeat(self, tree: RepeatedNode) -> tuple[int, int]:
        begin = end = self._add()
        for _ in range(tree.least):
            first, last = self._build(tree.node)
            self._join(end, first)
            end = last
        if tree.most is None:
            first, last = self._build(tree.node)
            self._join(end, first)
            self._join(last, first)
            final = self._add()
            self._join(end, final)
            self._join(last, final)
            return begin, final
        final = self._add()
        for _ in range(tree.most - tree.least):
            self._join(end, final)
            first, last = self._build(tree.node)
            self._join(end, first)
            end = last
        self._join(end, final)
        return begin, final

    def _number(self, characters: CharacterSet) -> int:
        """Return the bit of a set in the columns."""
        number = self._numbers.get(characters)
        if number is None:
            self.sets.append(characters)
            number = self._numbers[characters] = len(self.sets)
        return number
