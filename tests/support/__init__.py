"""What tests stand on: brokers and faults, and no test."""
