"""How an image becomes a model's input; stored with the weights, never a constant in a client."""

import dataclasses

INTERPOLATIONS = ("bilinear", "bicubic")
RESIZES = ("crop", "stretch")


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """Evaluation preprocessing: resize, scale to [0, 1], RGB.

    For a crop of unequal sides see `at_size`.

    Attributes:
        short_side: Pixels of the shorter side after the resize; with "stretch" it has no part, and
            is the crop's shorter one.
        crop_size: Side of the square that the model sees, in pixels, or its height and width.
        interpolation: "bilinear" or "bicubic".
        resize: "crop" resizes the short side and crops the centre; "stretch" resizes the whole
            image, whatever its aspect.

    Raises:
        ValueError: If the crop is larger than the resized image, or a method is unknown.
    """

    short_side: int = 288
    crop_size: int | tuple[int, int] = 256
    interpolation: str = "bilinear"
    resize: str = "crop"

    def __post_init__(self) -> None:
        if self.resize not in RESIZES:
            raise ValueError(f"`resize` must be one of {RESIZES}. Received: {self.resize!r}.")
        if isinstance(self.crop_size, list | tuple):
            if len(self.crop_size) != 2:
                raise ValueError(
                    f"`crop_size` must be a side or height and width. Received: {self.crop_size}."
                )
            # A tuple comes back from JSON as a list.
            height, width = self.crop_size
            sides = height if height == width else (height, width)
            object.__setattr__(self, "crop_size", sides)
        if self.resize == "stretch":
            object.__setattr__(self, "short_side", min(self.sides))
        if not 0 < min(self.sides) <= self.short_side:
            raise ValueError(
                "`crop_size` must be positive and at most `short_side`. "
                f"Received: crop_size={self.crop_size}, short_side={self.short_side}."
            )
        if self.interpolation not in INTERPOLATIONS:
            raise ValueError(
                f"`interpolation` must be one of {INTERPOLATIONS}. "
                f"Received: {self.interpolation!r}."
            )

    @property
    def sides(self) -> tuple[int, int]:
        """Height and width that the model sees."""
        if isinstance(self.crop_size, int):
            return self.crop_size, self.crop_size
        return self.crop_size

    def at_size(self, size: int | tuple[int, int]) -> "Preprocessing":
        """The same for another crop: the short side keeps its proportion to it.

        Args:
            size: Side of the crop, or its height and width. Of unequal sides of a "crop" the
                shorter one is `crop_size`, and `short_side` what it is cut from.
        """
        if self.resize == "stretch":
            return dataclasses.replace(self, crop_size=size)
        side = size if isinstance(size, int) else min(size)
        short_side = max(side, round(self.short_side * side / min(self.sides)))
        return dataclasses.replace(self, short_side=short_side, crop_size=side)
