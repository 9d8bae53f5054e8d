"""The vocabulary: wire contracts, catalog, topics and ClickHouse DDL. Imports nothing of ours."""
