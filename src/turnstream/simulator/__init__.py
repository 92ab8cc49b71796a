"""A scripted model behind real wires, with faults: in the process, or as a server that mimics a provider."""
