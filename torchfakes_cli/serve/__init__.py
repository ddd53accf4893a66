"""The scan as an HTTP service: clips are received, queued for one scanner, and deleted after their scan."""
