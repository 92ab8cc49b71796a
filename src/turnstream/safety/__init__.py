"""Redaction: text that must not be shown, or must not be sent to a provider. Pure, without I/O."""
