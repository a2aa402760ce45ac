"""Kafka through aiokafka, its only home: `settings` → `connection` → producer, reader, group, tail, admin → `bus`."""

from bridge.bus.kafka.bus import KafkaBus
from bridge.bus.kafka.settings import KafkaSettings

__all__ = ["KafkaBus", "KafkaSettings"]
