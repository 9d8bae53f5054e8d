"""The shell: Faust app and agents, Kafka transport, ClickHouse sink, command line. Imports schemas and pipeline."""
