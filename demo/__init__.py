"""The browser demo: a Gradio page over a bundle, on this machine and without the network."""
