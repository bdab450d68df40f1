"""Values that all stages share: errors, axes, regions, planes and prompts.

Standard library and numpy only.
"""

__all__ = ["axes", "errors", "modes", "plane", "prompt_shapes", "prompts", "region", "steps"]
