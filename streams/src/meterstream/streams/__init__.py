"""The meter and the publisher: events in, a journal of exact usage out."""
