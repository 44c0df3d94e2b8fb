"""Methods: arrays in, arrays out; no file, no print, no clock, no global state."""
