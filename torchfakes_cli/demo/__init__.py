"""A page in the browser for one scan at a time. ``examiner`` scans; only ``page`` imports Gradio, an extra."""
