"""``train``: from crops to a calibrated detector in one checkpoint."""
