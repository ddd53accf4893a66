"""Scan video files: the scanner of one video, the verdict policy, and batches of many files."""
