"""Demo page for the browser, with one scan at a time; only ``page`` imports Gradio, an optional dependency."""
