"""`python -m meterstream.cli`: the same as the command `meterstream`."""

from meterstream.cli.main import main

main()
