"""ONNX export of the detector and the face detector for programs without PyTorch, such as phone apps.

``folder`` runs the export. ``networks`` defines the exported networks and converts them to ONNX in a given precision,
``parity`` provides faces for calibration and compares the results with torch.
"""
