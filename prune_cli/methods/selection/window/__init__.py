"""Best window selection and its linear proxy."""
