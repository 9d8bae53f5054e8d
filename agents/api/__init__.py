"""The HTTP API: live views, history, ingestion, server-sent events and the dashboard's files (contract.md, section 4)."""
