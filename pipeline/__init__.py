"""The functional core: no clock, I/O, logging, async, randomness or floats. Imports schemas only."""
