"""Frames that are too large to be made for each watcher: made once, kept while a watcher is being sent them."""

from __future__ import annotations

import threading
from collections.abc import Hashable
from weakref import WeakValueDictionary

LARGE_FRAME = 64 * 1024
"""Bytes above which watchers share a frame."""


class SharedFrame:
    """The bytes of one frame. They are shared for as long as a watcher holds this object."""

    __slots__ = ("__weakref__", "data")

    def __init__(self, data: bytes) -> None:
        self.data = data


class SharedFrames:
    """The large frames that watchers are being sent now. Threads share it."""

    def __init__(self) -> None:
        self._frames: WeakValueDictionary[Hashable, SharedFrame] = WeakValueDictionary()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._frames)

    def shared(self, key: Hashable, data: bytes) -> SharedFrame:
        """Return the frame of `key` that another watcher holds, or one of `data`."""
        with self._lock:
            frame = self._frames.get(key)
            if frame is None:
                frame = self._frames[key] = SharedFrame(data)
            return frame


shared_frames = SharedFrames()
"""Those of this process. Their keys begin with an id that no other turn has."""
