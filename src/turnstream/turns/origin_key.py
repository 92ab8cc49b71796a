"""The key with which this server signs origins that go through clients."""

from __future__ import annotations

from secrets import token_hex

from turnstream.core.origin_seal import OriginSeal
from turnstream.store.base import Store
from turnstream.store.operations.secrets import KeepSecret

_NAME = "origins"


class OriginKey:
    """Makes the seal of a server. Its key is made at the first use, and stays the same in this database."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._seal: OriginSeal | None = None

    async def seal(self) -> OriginSeal:
        """Return the seal. Raises StoreError."""
        if self._seal is None:
            key = await self._store.write(KeepSecret(name=_NAME, value=token_hex(32)))
            self._seal = OriginSeal(bytes.fromhex(key))
        return self._seal
