"""The dialect of Ollama's clients: requests, and lists of models."""
