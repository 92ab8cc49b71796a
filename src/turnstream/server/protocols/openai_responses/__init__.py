"""Routes for clients of OpenAI Responses."""
