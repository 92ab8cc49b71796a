"""The redaction that the settings describe."""

from __future__ import annotations

from turnstream.config import RedactionSettings
from turnstream.config.functions import load_function
from turnstream.errors import ConfigurationError
from turnstream.safety.redaction import Redaction
from turnstream.safety.rules import BUILT_IN_RULES, RedactionRule


def configured_redaction(settings: RedactionSettings) -> Redaction:
    """Return the rules of the settings. Raises ConfigurationError, which names the rule."""
    rules = dict(BUILT_IN_RULES)
    for name, own in settings.patterns.items():
        function = own.function and load_function(own.function, "the function of a redaction")
        rules[name] = RedactionRule(name, own.pattern, function or own.replacement)
    if unknown := [name for name in (*settings.shown, *settings.sent) if name not in rules]:
        raise ConfigurationError(
            f"[redaction] names the rule {unknown[0]!r}; there are: {', '.join(rules)}. "
            "A rule of your own is a table [redaction.patterns.NAME] with its pattern"
        )
    return Redaction([rules[name] for name in settings.shown], [rules[name] for name in settings.sent])
