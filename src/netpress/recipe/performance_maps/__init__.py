"""Performance maps: what a tool costs, measured and written into the stream."""
