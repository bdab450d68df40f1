"""Values that all stages share: errors, axes and regions. Standard library and numpy only."""

__all__ = ["axes", "errors", "region"]
