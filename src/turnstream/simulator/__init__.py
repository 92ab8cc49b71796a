"""A scripted model behind true wires, with faults: in the process, or as a server that looks like a provider."""
