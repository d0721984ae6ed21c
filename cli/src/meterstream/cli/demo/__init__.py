"""The demonstration: the whole pipeline on this machine, with proof that its numbers are right."""
