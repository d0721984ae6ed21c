"""Limits as admins set them: what is in force, what is wanted, and how the two differ."""
