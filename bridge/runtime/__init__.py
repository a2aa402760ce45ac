"""How the process lives: configuration, supervision, logging, metrics, health, time."""
