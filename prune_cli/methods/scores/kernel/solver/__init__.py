"""All classes at once: one factorisation of a set of samples serves every one-vs-rest problem."""
