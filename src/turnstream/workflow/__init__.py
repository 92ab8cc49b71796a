"""Staged agents: a workflow runs stages, one after the other, as one turn.

from turnstream.workflow import Workflow

turn = await engine.start(Workflow(LLM(), tools=[search]).source("What did we decide?"))
"""

from turnstream.workflow.events import WorkflowEvent, completed, done, fail, running, thinking
from turnstream.workflow.prompts import StagePrompts
from turnstream.workflow.stage import Stage, StageOutput, StageRun
from turnstream.workflow.staged_workflow import DEFAULT_STAGES, Workflow
from turnstream.workflow.state import ContextItem, WorkflowState

__all__ = [
    "DEFAULT_STAGES",
    "ContextItem",
    "Stage",
    "StageOutput",
    "StagePrompts",
    "StageRun",
    "Workflow",
    "WorkflowEvent",
    "WorkflowState",
    "completed",
    "done",
    "fail",
    "running",
    "thinking",
]
