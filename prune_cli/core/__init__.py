"""What every layer shares: errors, parameters, random streams, the machine."""
