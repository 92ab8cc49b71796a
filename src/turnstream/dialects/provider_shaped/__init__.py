"""Dialects that have the shape of a provider's protocol: a turn is shown as the answer of one model call.

TurnEvents ─► projection.py ─► StreamEvents ─► the serving encoder of a wire ─► bytes     encoder.py
body ─► the request decoder of a wire ─► ModelRequest ─► request.py ─► ClientRequest
"""
