"""Texts of the simulated models."""

from __future__ import annotations

DEMO = """\
Hello! I am **sim/demo**, a scripted stand-in: no language model has read your message. turnstream answers \
with me when no provider is configured, so that you can try everything else about it first.

{said}

Everything around this text is real: it arrived as a provider's bytes, was decoded into events, and was \
folded into a block. So these are worth trying now:

1. At a server, cut your `curl`, and send the last `id` back as `Last-Event-ID`: the stream continues \
exactly where it stopped. A chat page may be reloaded at any moment. A second reader of the same stream \
catches up, and then follows live.
2. With `turnstream ask`, press Ctrl-C in the middle of an answer: the text so far stays. `turnstream ask \
-c` continues the conversation.
3. In a program, read one stream in several ways at once: its text, its events, its blocks. Each reader \
gets all of it.

To talk to a real model, set `ANTHROPIC_API_KEY` or `OPENAI_API_KEY` before you start the program that \
answers you, or describe any compatible provider in `turnstream.toml`:

```toml
[providers.local]
wire = "openai-chat"
base_url = "http://127.0.0.1:8000/v1"
```

My siblings are good for tests: `sim/thinking` thinks aloud, `sim/tools` calls tools, `sim/echo` repeats \
you, and `sim/story:events=500,pace=0.005` writes for a while. With `fault=cut,after=20` any of them breaks \
off in the middle, and you can watch what turnstream makes of it.
"""

EMPTY_CONVERSATION = "You have not said anything yet."

WITHDRAWN = "This answer was blocked by a simulated guardrail."

NO_TOOLS = "I would call a tool here, but this request offers none."

THOUGHT = """\
The user wants text that is hard to carry. 🤔 Which characters break streams?\r
CR and LF that arrive apart, for one;\r
then U+2028 \u2028 which some line readers take for an end of line, and U+0085 \u0085 likewise.
"""

UNUSUAL = """\
Emoji: 🙂 👩‍👩‍👧‍👦 🇪🇺 👍🏽. \
Combining: e\u0301 a\u0308\u0323 Z\u0351\u0343\u0315. \
Scripts: שלום · مرحبا · नमस्ते · 你好 · こんにちは.\r
A line that ends in CR LF,\r
\u2028a line separator, a paragraph separator\u2029, a next line\u0085, a byte order mark \ufeff, a tab\t, \
quotes " and \\ and </script>, and data: at the beginning of a line:
data: not an event

event: message_stop
𝔗𝔥𝔢 𝔢𝔫𝔡.
"""

STORY_WORDS = (
    "river", "lantern", "and", "the", "quiet", "harbour", "of", "a", "morning", "letter", "under", "stone",
    "winter", "to", "bright", "orchard", "with", "old", "engine", "in", "sparrow", "copper", "beyond",
    "garden", "slowly", "two", "travellers", "remember", "no", "bridge", "paper", "clouds", "sing", "while",
    "salt", "every", "window", "opens",
)  # fmt: skip


def quoted(text: str) -> str:
    """Return the user's text as a quotation."""
    return "You wrote:\n\n" + "\n".join(f"> {line}" for line in text.splitlines())
