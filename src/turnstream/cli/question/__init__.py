"""A question of `turnstream ask`: the words, files, tools and formats of the command line."""
