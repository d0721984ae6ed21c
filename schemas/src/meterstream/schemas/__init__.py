"""The contract of Meterstream: events, journal records, rows, topics. Imports nothing of ours."""
