"""Frames that are too large to encode for each watcher.

They are encoded once, and freed when no watcher needs them.
"""

from __future__ import annotations

import threading
from collections.abc import Hashable
from weakref import WeakValueDictionary

LARGE_FRAME = 64 * 1024
"""Bytes above which watchers share a frame."""


class SharedFrame:
    """The bytes of one frame. Watchers share the bytes while one of them holds this object."""

    __slots__ = ("__weakref__", "data")

    def __init__(self, data: bytes) -> None:
        self.data = data


class SharedFrames:
    """The large frames that are being sent to watchers now. It is thread-safe."""

    def __init__(self) -> None:
        self._frames: WeakValueDictionary[Hashable, SharedFrame] = WeakValueDictionary()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._frames)

    def shared(self, key: Hashable, data: bytes) -> SharedFrame:
        """Return the frame that another watcher holds for `key`, or a new frame of `data`."""
        with self._lock:
            frame = self._frames.get(key)
            if frame is None:
                frame = self._frames[key] = SharedFrame(data)
            return frame


shared_frames = SharedFrames()
"""The shared frames of this process. Their keys begin with an id that is unique to the turn."""
