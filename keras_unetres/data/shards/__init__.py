"""Sets that lie in shards: where their bytes are, and how a sample is found without reading the others."""
