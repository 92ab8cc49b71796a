"""The dialect of OpenAI Responses."""
