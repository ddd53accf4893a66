"""ONNX export of the detector and the face detector for programs without PyTorch, such as phone apps.

``folder`` runs the export. ``networks`` defines the exported networks, ``convert`` converts them to ONNX in a given
precision, ``samples`` provides faces for calibration and comparison, and ``parity`` compares the results with torch.
"""
