"""The notifier: threshold events to webhooks and email. Never none, at most one repeat a kill."""
