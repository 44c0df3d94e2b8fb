"""The options that several commands have, each stated once, in groups of what belongs together."""
