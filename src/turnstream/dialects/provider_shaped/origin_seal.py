"""Signatures of thinking on their way through a client, with the origin of their block.

A client sends thinking back with its signature only: its protocol has no field for the origin. So the
client gets a sealed signature, which holds the origin and an HMAC of it:

    turnstream1.<origin, base64>.<HMAC, base64>.<the provider's signature>

A block that comes back has its origin again. The origin's digest covers the block's text and signature, so
a block that was changed on its way is found when it is sent to a provider (`core.origin`). A signature that
this server has not sealed is removed: it would be trusted like the caller's own.
"""

from __future__ import annotations

import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable
from hashlib import sha256
from typing import Any

import msgspec

from turnstream.core.blocks import Block, Content
from turnstream.core.origin import ORIGIN

PREFIX = "turnstream1"
"""Beginning of a sealed signature."""
_FIELDS = ("signature", "redacted")
"""Fields of a thinking block that a client sends back unread."""


class OriginSeal:
    """Seals the signatures of blocks for clients, and opens them.

    Args:
        key: Secret of the server, at least 32 bytes.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key

    def sealed(self, signature: str, origin: Content) -> str:
        """Return a signature with the origin of its block."""
        text = urlsafe_b64encode(msgspec.json.encode(origin, order="deterministic"))
        return f"{PREFIX}.{text.decode()}.{self._mac(text)}.{signature}"

    def opened(self, sealed: str) -> tuple[str, Content] | None:
        """Return the signature and the origin of a sealed signature. None: this server has not sealed it."""
        prefix, _, rest = sealed.partition(".")
        text, _, rest = rest.partition(".")
        mac, _, signature = rest.partition(".")
        if prefix != PREFIX or not text.isascii() or not mac.isascii():
            return None
        if not hmac.compare_digest(mac, self._mac(text.encode())):
            return None
        origin: Any = msgspec.json.decode(urlsafe_b64decode(text))
        return signature, origin

    def opened_blocks(self, blocks: Iterable[Block]) -> tuple[Block, ...]:
        """Return the blocks of a client's message with their origins.

        Signatures that this server has not sealed are removed, and so are origins that the client gives.
        """
        return tuple(self._opened_block(block) for block in blocks)

    def _opened_block(self, block: Block) -> Block:
        content = block.content
        if content is None or not (ORIGIN in content or block.block_type == "thinking"):
            return block
        kept = {name: value for name, value in content.items() if name != ORIGIN}
        for name in _FIELDS if block.block_type == "thinking" else ():
            if name not in kept:
                continue
            opened = self.opened(str(kept.pop(name)))
            if opened is not None:
                kept[name], kept[ORIGIN] = opened
        return msgspec.structs.replace(block, content=kept or None)

    def _mac(self, text: bytes) -> str:
        return urlsafe_b64encode(hmac.digest(self._key, text, sha256)).decode().rstrip("=")
