"""Durable, resumable LLM streaming: one engine, any number of watchers, no text lost.

The library streams a model without a server:

    import turnstream as ts

    llm = ts.LLM("anthropic/claude-sonnet-5-5")
    async with llm.stream("Why is the sky blue?") as stream:
        async for text in stream.text:
            print(text, end="")

The import loads no heavy module. Each name is loaded at its first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from turnstream.client import AsyncClient as AsyncClient
    from turnstream.client import Client as Client
    from turnstream.config import AgentSettings as AgentSettings
    from turnstream.config import CapabilitySettings as CapabilitySettings
    from turnstream.config import EngineSettings as EngineSettings
    from turnstream.config import ModelSettings as ModelSettings
    from turnstream.config import PriceSettings as PriceSettings
    from turnstream.config import ProviderSettings as ProviderSettings
    from turnstream.config import RetrySettings as RetrySettings
    from turnstream.config import ServerSettings as ServerSettings
    from turnstream.config import Settings as Settings
    from turnstream.config import StreamSettings as StreamSettings
    from turnstream.config import load_settings as load_settings
    from turnstream.core.accumulator import Accumulator as Accumulator
    from turnstream.core.blocks import Block as Block
    from turnstream.core.blocks import Message as Message
    from turnstream.core.cursor import Cursor as Cursor
    from turnstream.core.shared_accumulator import SharedAccumulator as SharedAccumulator
    from turnstream.core.stream_events import ContentBlockStart as ContentBlockStart
    from turnstream.core.stream_events import ContentBlockStop as ContentBlockStop
    from turnstream.core.stream_events import ContentDelta as ContentDelta
    from turnstream.core.stream_events import MessageStart as MessageStart
    from turnstream.core.stream_events import MessageStop as MessageStop
    from turnstream.core.stream_events import Metadata as Metadata
    from turnstream.core.stream_events import RedactContent as RedactContent
    from turnstream.core.stream_events import SignatureDelta as SignatureDelta
    from turnstream.core.stream_events import StreamError as StreamError
    from turnstream.core.stream_events import StreamEvent as StreamEvent
    from turnstream.core.stream_events import StreamNotice as StreamNotice
    from turnstream.core.stream_events import TextDelta as TextDelta
    from turnstream.core.stream_events import ThinkingDelta as ThinkingDelta
    from turnstream.core.stream_events import ToolInputDelta as ToolInputDelta
    from turnstream.core.turn_events import ApprovalRequest as ApprovalRequest
    from turnstream.core.turn_events import ApprovalResponse as ApprovalResponse
    from turnstream.core.turn_events import BlockCatchup as BlockCatchup
    from turnstream.core.turn_events import BlockDelta as BlockDelta
    from turnstream.core.turn_events import BlockReset as BlockReset
    from turnstream.core.turn_events import BlockStart as BlockStart
    from turnstream.core.turn_events import BlockStop as BlockStop
    from turnstream.core.turn_events import Data as Data
    from turnstream.core.turn_events import Notice as Notice
    from turnstream.core.turn_events import Source as Source
    from turnstream.core.turn_events import SourceEvent as SourceEvent
    from turnstream.core.turn_events import StepStart as StepStart
    from turnstream.core.turn_events import StepStop as StepStop
    from turnstream.core.turn_events import ToolProgress as ToolProgress
    from turnstream.core.turn_events import TurnCancelled as TurnCancelled
    from turnstream.core.turn_events import TurnComplete as TurnComplete
    from turnstream.core.turn_events import TurnError as TurnError
    from turnstream.core.turn_events import TurnEvent as TurnEvent
    from turnstream.core.turn_events import TurnStart as TurnStart
    from turnstream.core.turn_events import UsageReport as UsageReport
    from turnstream.core.turn_events import UserRedacted as UserRedacted
    from turnstream.core.usage import Usage as Usage
    from turnstream.engine import Engine as Engine
    from turnstream.errors import AuthenticationFailed as AuthenticationFailed
    from turnstream.errors import CircuitOpen as CircuitOpen
    from turnstream.errors import ConfigurationError as ConfigurationError
    from turnstream.errors import ConnectionFailed as ConnectionFailed
    from turnstream.errors import ContentFiltered as ContentFiltered
    from turnstream.errors import ContextLengthExceeded as ContextLengthExceeded
    from turnstream.errors import InvalidModelRequest as InvalidModelRequest
    from turnstream.errors import InvalidOutput as InvalidOutput
    from turnstream.errors import InvalidRequest as InvalidRequest
    from turnstream.errors import MalformedEvent as MalformedEvent
    from turnstream.errors import ModelNotFound as ModelNotFound
    from turnstream.errors import Overloaded as Overloaded
    from turnstream.errors import PermissionDenied as PermissionDenied
    from turnstream.errors import ProviderError as ProviderError
    from turnstream.errors import ProviderFailed as ProviderFailed
    from turnstream.errors import ProviderTimeout as ProviderTimeout
    from turnstream.errors import RateLimited as RateLimited
    from turnstream.errors import StreamBroken as StreamBroken
    from turnstream.errors import StreamClosed as StreamClosed
    from turnstream.errors import StreamIncomplete as StreamIncomplete
    from turnstream.errors import TurnstreamError as TurnstreamError
    from turnstream.llm.assembly import MessageAssembler as MessageAssembler
    from turnstream.llm.blocking import SyncMessageStream as SyncMessageStream
    from turnstream.llm.call_options import CallOptions as CallOptions
    from turnstream.llm.callbacks import Batching as Batching
    from turnstream.llm.callbacks import Callbacks as Callbacks
    from turnstream.llm.conversation import Conversation as Conversation
    from turnstream.llm.language_model import LLM as LLM
    from turnstream.llm.message_stream import MessageStream as MessageStream
    from turnstream.llm.message_stream import StreamOptions as StreamOptions
    from turnstream.llm.metrics import StreamMetrics as StreamMetrics
    from turnstream.llm.model_message import MessageAttempt as MessageAttempt
    from turnstream.llm.model_message import MessageStep as MessageStep
    from turnstream.llm.model_message import ModelMessage as ModelMessage
    from turnstream.llm.model_message import ToolCall as ToolCall
    from turnstream.llm.offering import AnyTool as AnyTool
    from turnstream.llm.output import OutputMode as OutputMode
    from turnstream.llm.prompts import MessageLike as MessageLike
    from turnstream.llm.prompts import Prompt as Prompt
    from turnstream.llm.readers import EventFilter as EventFilter
    from turnstream.llm.readers import Renderer as Renderer
    from turnstream.safety.redaction import Redaction as Redaction
    from turnstream.safety.rules import RedactionRule as RedactionRule
    from turnstream.server.auth import Principal as Principal
    from turnstream.server.live_turn import LiveTurn as LiveTurn
    from turnstream.telemetry import configure_logging as configure_logging
    from turnstream.tools.asking import ApprovalQuestion as ApprovalQuestion
    from turnstream.tools.base import ToolContext as ToolContext
    from turnstream.tools.base import ToolError as ToolError
    from turnstream.tools.base import tool as tool
    from turnstream.tools.runner import ToolLimits as ToolLimits
    from turnstream.turns.new_turns import Alternative as Alternative
    from turnstream.turns.new_turns import TurnRequest as TurnRequest

_NAMES = {
    "client": "AsyncClient Client",
    "config": (
        "AgentSettings CapabilitySettings EngineSettings load_settings ModelSettings PriceSettings "
        "ProviderSettings RetrySettings ServerSettings Settings StreamSettings"
    ),
    "core.accumulator": "Accumulator",
    "core.blocks": "Block Message",
    "core.cursor": "Cursor",
    "core.shared_accumulator": "SharedAccumulator",
    "core.stream_events": (
        "ContentBlockStart ContentBlockStop ContentDelta MessageStart MessageStop Metadata "
        "RedactContent SignatureDelta StreamError StreamEvent StreamNotice TextDelta ThinkingDelta "
        "ToolInputDelta"
    ),
    "core.turn_events": (
        "ApprovalRequest ApprovalResponse BlockCatchup BlockDelta BlockReset BlockStart BlockStop Data "
        "Notice Source SourceEvent StepStart StepStop ToolProgress TurnCancelled TurnComplete TurnError "
        "TurnEvent TurnStart UsageReport UserRedacted"
    ),
    "core.usage": "Usage",
    "engine": "Engine",
    "errors": (
        "AuthenticationFailed CircuitOpen ConfigurationError ConnectionFailed ContentFiltered "
        "ContextLengthExceeded InvalidModelRequest InvalidOutput InvalidRequest MalformedEvent "
        "ModelNotFound Overloaded PermissionDenied ProviderError ProviderFailed ProviderTimeout "
        "RateLimited StreamBroken StreamClosed StreamIncomplete TurnstreamError"
    ),
    "llm.assembly": "MessageAssembler",
    "llm.blocking": "SyncMessageStream",
    "llm.call_options": "CallOptions",
    "llm.callbacks": "Batching Callbacks",
    "llm.conversation": "Conversation",
    "llm.language_model": "LLM",
    "llm.message_stream": "MessageStream StreamOptions",
    "llm.metrics": "StreamMetrics",
    "llm.model_message": "MessageAttempt MessageStep ModelMessage ToolCall",
    "llm.offering": "AnyTool",
    "llm.output": "OutputMode",
    "llm.prompts": "MessageLike Prompt",
    "llm.readers": "EventFilter Renderer",
    "safety.redaction": "Redaction",
    "safety.rules": "RedactionRule",
    "server.auth": "Principal",
    "server.live_turn": "LiveTurn",
    "telemetry": "configure_logging",
    "tools.asking": "ApprovalQuestion",
    "tools.base": "tool ToolContext ToolError",
    "tools.runner": "ToolLimits",
    "turns.new_turns": "Alternative TurnRequest",
}
"""The public names of each module of the package."""
_HOMES = {name: f"turnstream.{home}" for home, names in _NAMES.items() for name in names.split()}
__all__ = list(_HOMES)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return import_module("importlib.metadata").version("turnstream")
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'turnstream' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(home), name)
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__doc__", "__file__", "__name__", "__path__", "__version__"])
