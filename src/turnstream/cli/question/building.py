"""The question of a command line: words, standard input, template, attachments and options."""

from __future__ import annotations

import itertools
import sys
from argparse import Namespace
from collections.abc import Iterator
from typing import Any, NamedTuple

from turnstream.cli.conversation import ConversationPlace, recall
from turnstream.cli.followed_turn import Question
from turnstream.cli.question.attachments import attached
from turnstream.cli.question.options import merged, params_of
from turnstream.cli.question.schema import response_format
from turnstream.cli.question.templates import QuestionTemplate, read
from turnstream.core.blocks import Block
from turnstream.errors import ConfigurationError, InvalidRequest


class BuiltQuestion(NamedTuple):
    """A question, and the schema of its answer. `schema`: None for text."""

    question: Question
    schema: dict[str, Any] | None


def build_question(arguments: Namespace, where: str) -> BuiltQuestion:
    """Return the question of `turnstream ask`.

    Raises InvalidRequest if there is no question, and ConfigurationError if an option is not valid.

    Args:
        where: URL of the server or of the database, whose last conversation `--continue` continues.
    """
    template = read(arguments.template) if arguments.template is not None else QuestionTemplate()
    params = merged(template.params, params_of(arguments.options))
    schema: dict[str, Any] | None = None
    if (written := arguments.schema or template.schema) is not None:
        answer_format = response_format(written)
        schema = answer_format["schema"]
        params = merged({"response_format": answer_format}, params)
    text = template.filled(_text(arguments, template), _words(arguments.words))
    blocks = [Block(0, "text", text)] if text.strip() else []
    blocks += attached(arguments.attachments, first=len(blocks))
    if not blocks:
        raise InvalidRequest('the question is empty: turnstream ask "Why is the sky blue?"')
    functions: tuple[Any, ...] = ()
    if arguments.functions:
        from turnstream.cli.question.functions import functions_of

        if arguments.url is not None:
            raise ConfigurationError("--functions run in this process: leave out --url, or use -T")
        functions = tuple(itertools.chain.from_iterable(map(functions_of, arguments.functions)))
    question = Question(
        tuple(blocks),
        arguments.model or template.model,
        arguments.system or template.system,
        _place(arguments, where),
        params or None,
        _tools(arguments, template, functions),
        functions,
    )
    return BuiltQuestion(question, schema)


def _text(arguments: Namespace, template: QuestionTemplate) -> str:
    words: list[str] = arguments.question
    if not words and (arguments.attachments or _asks_itself(template)):
        return ""
    if not words and sys.stdin.isatty():
        raise InvalidRequest('the question is missing: turnstream ask "Why is the sky blue?"')
    return "\n\n".join(_parts(words or ["-"]))


def _asks_itself(template: QuestionTemplate) -> bool:
    """Return True if a template has a prompt that needs no question."""
    return template.prompt is not None and "input" not in template.prompt


def _parts(words: list[str]) -> Iterator[str]:
    """Yield the question's parts: standard input for each `-`, and consecutive words joined by spaces."""
    for is_input, several in itertools.groupby(words, lambda word: word == "-"):
        yield sys.stdin.read() if is_input else " ".join(several)


def _words(given: list[str]) -> dict[str, str]:
    words: dict[str, str] = {}
    for word in given:
        name, equals, value = word.partition("=")
        if not equals or not name.isidentifier():
            raise ConfigurationError(f"-p {word!r} is not NAME=VALUE")
        words[name] = value
    return words


def _place(arguments: Namespace, where: str) -> ConversationPlace | None:
    if arguments.no_store and (arguments.url is not None or arguments.chat is not None or arguments.go_on):
        raise ConfigurationError("--no-store is for a new question in this process: leave it out")
    if arguments.chat is not None:
        if arguments.go_on:
            raise ConfigurationError("give --continue or --chat, not both")
        return ConversationPlace(arguments.chat)
    return recall(where) if arguments.go_on else None


def _tools(
    arguments: Namespace, template: QuestionTemplate, functions: tuple[Any, ...]
) -> tuple[str, ...] | None:
    """Return the names of the tools, or None for all. Functions of `--functions` are always among them."""
    named = tuple(arguments.tools) or template.tools
    if named is None:
        return None
    return (*named, *(function.__name__ for function in functions if function.__name__ not in named))
