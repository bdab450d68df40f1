"""Training: data, prompts, losses and the loop."""
