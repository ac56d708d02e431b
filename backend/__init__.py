"""Everything that works without a browser; never imports gradio."""
