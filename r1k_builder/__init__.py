"""Build r1k: reverse reasoning data from forward examples, resumable to the last answer."""

__version__ = "0.1.0"
