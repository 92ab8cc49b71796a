"""The chat window of the terminal. It talks to a server over HTTP, and draws with Textual.

`shown_chat.py` follows a chat, and `transcript_turn.py` folds the events of its turns without I/O. `app.py`
joins them with the `widgets/`, and `plain_mode.py` shows the same
as plain lines.
"""
