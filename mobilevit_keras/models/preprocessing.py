"""How an image becomes a model's input; stored with the weights, never a constant in a client."""

import dataclasses

INTERPOLATIONS = ("bilinear", "bicubic")


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """Evaluation preprocessing: resize the short side, crop the centre, scale to [0, 1], RGB.

    For a crop of unequal sides see `at_size`.

    Attributes:
        short_side: Pixels of the shorter side after the resize.
        crop_size: Side of the square centre crop, in pixels.
        interpolation: "bilinear" or "bicubic".

    Raises:
        ValueError: If the crop is larger than the resized image or the interpolation is unknown.
    """

    short_side: int = 288
    crop_size: int = 256
    interpolation: str = "bilinear"

    def __post_init__(self) -> None:
        if not 0 < self.crop_size <= self.short_side:
            raise ValueError(
                "`crop_size` must be positive and at most `short_side`. "
                f"Received: crop_size={self.crop_size}, short_side={self.short_side}."
            )
        if self.interpolation not in INTERPOLATIONS:
            raise ValueError(
                f"`interpolation` must be one of {INTERPOLATIONS}. "
                f"Received: {self.interpolation!r}."
            )

    def at_size(self, size: int | tuple[int, int]) -> "Preprocessing":
        """The same for another crop: the short side keeps its proportion to it.

        Args:
            size: Side of the crop, or its height and width. Of unequal sides the shorter one is
                `crop_size`, and `short_side` what it is cut from.
        """
        side = size if isinstance(size, int) else min(size)
        short_side = max(side, round(self.short_side * side / self.crop_size))
        return dataclasses.replace(self, short_side=short_side, crop_size=side)
