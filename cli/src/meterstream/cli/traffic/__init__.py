"""Run events made from a seed or from a trace, and how they are sent."""
