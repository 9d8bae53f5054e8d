"""Real servers on this machine, for development, the demo and the tests: Apache Kafka and the ClickHouse engine."""
