"""A real process with real signals and exit codes."""
