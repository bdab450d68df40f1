"""Make the reference implementations importable before any parity test imports them."""

import torchvision_stand_in

torchvision_stand_in.install()
