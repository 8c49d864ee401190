"""Values and functions of values. No I/O, no clock, no randomness, no environment."""
