"""Numbers of the paper and of its authors' code that several rooms need.

Reference: [MobileViT](https://arxiv.org/abs/2110.02178).
"""

SIZES = (160, 192, 256, 288, 320)
"""Image sizes of multi-scale training, in pixels; section 4.1."""

BASE_SIZE = 256
"""The size at which a batch has its nominal number of images."""

CROP_AREA = (0.08, 1.0)
"""Smallest and largest part of an image's area that a random crop covers."""

SHORT_SIDE = (0.5, 2.0)
"""Smallest and largest short side that segmentation resizes an image to, in parts of its crop: in
the authors' recipe 256 to 1024 of 512."""

ZOOM_OUT = 4.0
"""How many times its sides an image is laid into at most before detection takes its part; SSD's."""

NUM_LAYERS = (2, 4, 3)
"""Transformer layers of the blocks in stages 3 to 5; table 4."""

MINIMUM_SIZE = 32
"""Smallest height and width of an image in pixels: one cell at the last stage."""
