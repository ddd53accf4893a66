"""Face detection, crops, sharpness and tracking. Only this package uses the face detector's networks."""
