"""Pure modules: no event loop and no fixtures beyond values."""
