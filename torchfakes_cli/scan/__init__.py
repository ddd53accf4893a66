"""Video files to results: the scanner of one video, the verdict policy, and batches of many files."""
