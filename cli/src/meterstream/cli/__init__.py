"""The one command, `meterstream`: set-up, services, traffic, usage and audit."""
