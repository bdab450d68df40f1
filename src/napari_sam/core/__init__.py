"""Values that all stages share: errors, axes, regions and prompts. Standard library and numpy only."""
