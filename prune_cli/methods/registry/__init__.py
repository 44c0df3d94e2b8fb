"""Every method by its name on the command line."""
