"""``python -m napari_sam`` is the command ``napari-sam``."""

from napari_sam.cli import main

__all__: list[str] = []

if __name__ == "__main__":
    main()
