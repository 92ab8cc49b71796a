"""Writes a function call's arguments, which arrive as pairs of JSON path and value, as one growing JSON text.

Usually, values arrive in the order of the text, and each one is appended to it. A container is closed as soon
as a value outside of it arrives. A later value inside that container cannot be appended. From then on, values
are only stored. At the end, their top-level fields are written again, complete: JSON readers take the last of
several fields with the same name.
"""

from __future__ import annotations

import re
from typing import Any, TypeAlias

from turnstream.errors import MalformedEvent
from turnstream.limits import NESTING_LIMIT
from turnstream.wires.shared.json_values import JsonObject, is_list, is_object
from turnstream.wires.shared.lenient_json import decode_json, encode_json, replace_surrogates

Path: TypeAlias = list[str | int]

_STEP = re.compile(
    r"""\.(?P<name>[^.\[\]]+)|\[(?P<index>\d{1,9})\]|\[(?P<quoted>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")\]"""
)
_LARGEST_GAP = 1000
"""Largest number of array elements that the values of one call may skip."""
_VALUES = ("stringValue", "numberValue", "boolValue", "nullValue")


class _Text:
    """A string that is still incomplete, at its place among the values."""

    __slots__ = ("pieces",)

    def __init__(self, text: str) -> None:
        self.pieces = [text]


class PartialArguments:
    """The arguments of one call. Joined, the texts from `take`, `put` and `close` are one JSON object."""

    def __init__(self) -> None:
        self._values: JsonObject = {}
        self._path: Path = []
        self._text: _Text | None = None
        self._late: dict[str, None] | None = None
        self._passed_over = 0

    def take(self, argument: JsonObject) -> str:
        """Process one entry of a call's `partialArgs` and return the new text.

        Raises MalformedEvent if its path is invalid or contradicts an earlier value.
        """
        path = parse_path(argument.get("jsonPath"))
        kind = next((name for name in _VALUES if name in argument), None)
        continues = argument.get("willContinue") is True
        if kind == "stringValue" and isinstance(text := argument["stringValue"], str):
            return self._take_text(path, text, continues=continues)
        if kind is None:
            return "" if continues or path != self._path else self._end_text()
        return self.put(path, None if kind == "nullValue" else argument[kind])

    def put(self, path: Path, value: Any) -> str:
        """Store a complete value at `path` and return the new text.

        Raises MalformedEvent if the path contradicts an earlier value, or skips too many elements.
        """
        gained = self._end_text()
        place = self._open(path, value)
        return gained if place is None else f"{gained}{place}{_json(value)}"

    def close(self) -> str:
        """Return the rest of the text."""
        gained = self._end_text()
        for key in reversed(self._path[1:]):
            gained += _end_of(key)
        late = (f"{_json(name)}:{_json(_whole(self._values[name]))}" for name in self._late or ())
        if not self._path:
            return gained + "{" + ",".join(late) + "}"
        return gained + "".join("," + field for field in late) + "}"

    def _take_text(self, path: Path, text: str, *, continues: bool) -> str:
        if self._text is not None and path == self._path and self._late is None:
            self._text.pieces.append(text)
            gained = _json(text)[1:-1]
        else:
            gained = self._end_text()
            started = self._continued(path) if self._late is not None else None
            if started is not None:
                started.pieces.append(text)
                return gained
            value = _Text(text)
            place = self._open(path, value)
            if place is None:
                return gained
            self._text = value
            gained += place + _json(text)[:-1]
        return gained if continues else gained + self._end_text()

    def _continued(self, path: Path) -> _Text | None:
        """Return the incomplete string at `path` among the values that are only stored, or None."""
        value: Any = self._values
        for key in path:
            if is_object(value) and isinstance(key, str):
                value = value.get(key)
            elif is_list(value) and isinstance(key, int) and key < len(value):
                value = value[key]
            else:
                return None
        return value if isinstance(value, _Text) else None

    def _end_text(self) -> str:
        if self._text is None:
            return ""
        self._text.pieces = ["".join(self._text.pieces)]
        self._text = None
        return '"'

    def _open(self, path: Path, value: Any) -> str | None:
        """Store `value` at `path`.

        Return the text that precedes it, or None if the text can no longer contain it.
        """
        shared = 0
        for old, new in zip(self._path, path, strict=False):
            if old != new:
                break
            shared += 1
        in_order = self._keep(path, value, shared) and self._late is None
        if not in_order:
            self._late = {} if self._late is None else self._late
            self._late[str(path[0])] = None
            return None
        gained = "".join(_end_of(key) for key in reversed(self._path[shared + 1 :]))
        gained += "," if self._path else "{"
        gained += self._padding(path, shared) + _key(path[shared])
        for key in path[shared + 1 :]:
            gained += ("[" + "null," * key if isinstance(key, int) else "{") + _key(key)
        self._path = path
        return gained

    def _padding(self, path: Path, shared: int) -> str:
        """Return nulls for the elements of an open array that were skipped."""
        key = path[shared]
        before = self._path[shared] if shared < len(self._path) else None
        return "null," * (key - before - 1) if isinstance(key, int) and isinstance(before, int) else ""

    def _keep(self, path: Path, value: Any, shared: int) -> bool:
        """Store `value` at `path`.

        Return True if its place is new and its container is still open in the text.
        """
        target: Any = self._values
        found: Any
        in_order = shared < len(path) and (not self._path or shared < len(self._path))
        for depth, key in enumerate(path):
            last = depth == len(path) - 1
            inner: Any = value if last else ([] if isinstance(path[depth + 1], int) else {})
            if isinstance(key, int) and is_list(target):
                known = key < len(target)
                self._passed_over += max(0, key - len(target))
                if self._passed_over > _LARGEST_GAP:
                    raise MalformedEvent("the arguments of a call skip too many elements of an array")
                target.extend([None] * (key + 1 - len(target)))
            elif isinstance(key, str) and is_object(target):
                known = key in target
            else:
                raise MalformedEvent("the arguments of a call use a value as an object or an array")
            found = target[key] if known else None  # type: ignore[index]
            if last or not (is_object(found) or is_list(found)):
                in_order = in_order and not (known and depth >= shared)
                target[key] = inner  # type: ignore[index]
                found = inner
            elif depth >= shared:
                in_order = False
            target = found
        return in_order


def parse_path(value: Any) -> Path:
    """Return the names and indexes of a JSON path such as `$.items[0]['a name']`.

    Raises MalformedEvent if it is not such a path, or too deep.
    """
    path: Path = []
    if isinstance(value, str) and value.startswith("$"):
        place = 1
        while place < len(value) and (step := _STEP.match(value, place)) is not None:
            place = step.end()
            if (index := step["index"]) is not None:
                path.append(int(index))
            else:
                path.append(replace_surrogates(step["name"] or _unquoted(step["quoted"])))
        if place == len(value) and path and isinstance(path[0], str) and len(path) <= NESTING_LIMIT:
            return path
    raise MalformedEvent("the JSON path of an argument is not valid")


def _unquoted(text: str) -> str:
    if text.startswith("'"):
        text = '"' + text[1:-1].replace("\\'", "'").replace('"', '\\"') + '"'
    try:
        return str(decode_json(text.encode("utf-8", "surrogatepass")))
    except ValueError:
        return text[1:-1]


def _whole(value: Any) -> Any:
    """Return `value` with the pieces of its strings joined."""
    if isinstance(value, _Text):
        return "".join(value.pieces)
    if is_object(value):
        return {key: _whole(item) for key, item in value.items()}
    return [_whole(item) for item in value] if is_list(value) else value


def _json(value: Any) -> str:
    return encode_json(value).decode("utf-8", "replace")


def _key(key: str | int) -> str:
    return "" if isinstance(key, int) else _json(key) + ":"


def _end_of(key: str | int) -> str:
    """Return the bracket that closes the container of `key`."""
    return "]" if isinstance(key, int) else "}"
