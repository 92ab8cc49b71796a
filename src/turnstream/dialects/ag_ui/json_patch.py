"""JSON Patch (RFC 6902), in which AG-UI expresses changes of the state."""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

import msgspec

_Pointer: TypeAlias = Annotated[str, msgspec.Meta(pattern=r"^(/([^/~]|~[01])*)*$")]


class _PatchTarget(msgspec.Struct, frozen=True, tag_field="op"):
    path: _Pointer


class _Adding(_PatchTarget, frozen=True, tag="add"):
    value: Any


class _Replacing(_PatchTarget, frozen=True, tag="replace"):
    value: Any


class _Testing(_PatchTarget, frozen=True, tag="test"):
    value: Any


class _Removing(_PatchTarget, frozen=True, tag="remove"):
    pass


class _FromPath(_PatchTarget, frozen=True):
    source: _Pointer = msgspec.field(name="from")


class _Moving(_FromPath, frozen=True, tag="move"):
    pass


class _Copying(_FromPath, frozen=True, tag="copy"):
    pass


_PatchOperation: TypeAlias = _Adding | _Replacing | _Testing | _Removing | _Moving | _Copying


def is_patch(value: object) -> bool:
    """Return True for a JSON Patch (RFC 6902). Clients end a run at a malformed one."""
    try:
        msgspec.convert(value, list[_PatchOperation])
    except msgspec.ValidationError:
        return False
    return True
