"""The AI SDK's UI message stream, majors 5, 6 and 7."""
