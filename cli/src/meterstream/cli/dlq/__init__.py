"""The dead-letter queue, read and sent again."""
