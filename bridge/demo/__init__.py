"""What `callbridge demo` brings along: an embedded broker, simulated providers and a sample voice agent."""
