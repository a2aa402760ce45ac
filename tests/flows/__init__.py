"""The whole gateway in this process, on a real broker or in memory."""
