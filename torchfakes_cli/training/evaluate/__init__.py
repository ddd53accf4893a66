"""``evaluate``: how good detectors are, with intervals, under damage, and calibrated anew."""
