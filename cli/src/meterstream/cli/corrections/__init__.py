"""Runs as they are counted by now, what they should cost, and the corrections that say so."""
