"""Real processes, killed between every two steps, on Apache Kafka."""
