"""Kafka behind narrow ports: `protocol` says what flows may ask, `kafka` is the only home of aiokafka."""
