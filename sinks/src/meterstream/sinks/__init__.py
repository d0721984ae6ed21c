"""The sinks: they bring the journal, the history and the catalog into ClickHouse."""
