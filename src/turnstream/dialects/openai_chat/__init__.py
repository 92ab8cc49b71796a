"""The dialect of OpenAI Chat Completions."""
