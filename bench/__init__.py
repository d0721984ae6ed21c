"""Benchmarks: what the pipeline does on this machine, with what it took to find out."""
