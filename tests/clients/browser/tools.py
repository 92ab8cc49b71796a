"""A tool of the page's server that runs until its turn is stopped."""

from __future__ import annotations

import asyncio

import turnstream as ts


@ts.tool(timeout=600)
async def find_orders(customer: str, context: ts.ToolContext) -> list[str]:
    """Find a customer's orders."""
    context.progress(f"Page 3 of the orders of {customer}")
    await asyncio.Event().wait()
    return []
