"""All writes except those of the journal.

A write refuses before it changes rows, so that its group can be committed.
"""

from turnstream.store.operations.chats import CreateChat, UpdateChat
from turnstream.store.operations.content import (
    SaveAnnotations,
    SaveBlock,
)
from turnstream.store.operations.deleting import DeleteChat, PurgeChat
from turnstream.store.operations.progress import (
    AbandonTurn,
    FinishTurn,
    MarkStreaming,
    RetractBlocks,
    SaveStep,
    TakeOver,
)
from turnstream.store.operations.start import StartedRecords, StartTurns

__all__ = [
    "AbandonTurn",
    "CreateChat",
    "DeleteChat",
    "FinishTurn",
    "MarkStreaming",
    "PurgeChat",
    "RetractBlocks",
    "SaveAnnotations",
    "SaveBlock",
    "SaveStep",
    "StartTurns",
    "StartedRecords",
    "TakeOver",
    "UpdateChat",
]
