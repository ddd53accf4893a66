"""``evaluate``: metrics of detectors with intervals, under damage, and recalibration."""
