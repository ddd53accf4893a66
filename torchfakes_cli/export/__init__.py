"""ONNX export of the detector and the face detector for programs without PyTorch, such as phone apps.

``folder`` runs the export. ``detector`` and ``cascade`` define the exported networks, ``convert`` converts them to ONNX
in a given precision, ``samples`` provides faces for calibration and comparison, and ``parity`` compares the results
with torch. ``facts`` describes the files for an app, and ``example`` is a complete client in NumPy.
"""
