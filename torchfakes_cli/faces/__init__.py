"""Face detection, crops, sharpness, and tracking through a shot. The only place that knows the face detector."""
