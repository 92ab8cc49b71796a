"""Commands for what belongs to the user: templates, keys of providers, completion of the shell."""
