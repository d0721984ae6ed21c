"""What admins write: entries of the control and catalog topics, and what the meter made of them."""
