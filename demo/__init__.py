"""The Gradio demo comes with the next release; there is nothing to start here yet."""
