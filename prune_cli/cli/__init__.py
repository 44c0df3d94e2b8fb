"""The command line: options in, one call of a stage, words and exit codes out."""
