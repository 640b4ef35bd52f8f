"""PASCAL VOC's XML files of boxes."""

import dataclasses
from xml.etree import ElementTree

from mobilevit_keras.data.source import printable
from mobilevit_keras.data.sources.box_files import four_numbers

_SIDES = ("xmin", "ymin", "xmax", "ymax")


@dataclasses.dataclass(frozen=True)
class VocObject:
    """An object as the file has it.

    Attributes:
        name: Its class.
        box: Left, top, right and bottom in pixels, or None where that is not four numbers.
        is_difficult: Whether it need not be found.
        text: It as a message shows it.
    """

    name: str
    box: tuple[float, ...] | None
    is_difficult: bool
    text: str


@dataclasses.dataclass(frozen=True)
class VocAnnotation:
    """What a file says of an image.

    Attributes:
        shape: The image's height and width, where it tells them.
        objects: What is in the image.
        fault: Why nothing can be known from it, in a few words; empty where it can.
    """

    shape: tuple[int, int] | None = None
    objects: tuple[VocObject, ...] = ()
    fault: str = ""

    @classmethod
    def read(cls, path: str) -> "VocAnnotation":
        """Reads a file, whatever is wrong with it."""
        try:
            root = ElementTree.parse(path).getroot()
        except FileNotFoundError:
            return cls(fault=f"there is no annotation {printable(path)}")
        # A declared encoding may be one that Python does not know.
        except (ElementTree.ParseError, OSError, ValueError, LookupError) as error:
            return cls(fault=f"its annotation {printable(path)} cannot be read: {error}")
        objects = tuple(_object(element) for element in root.findall("object"))
        if root.tag != "annotation" and not objects:
            # Else it would be an image without objects, which is trained on.
            return cls(fault=f"its annotation {printable(path)} is none: <{root.tag}>")
        sides = [_number(root, f"size/{side}") for side in ("height", "width")]
        shape = None
        if all(side is not None and 1 <= side < 2**31 for side in sides):
            shape = int(sides[0]), int(sides[1])
        return cls(shape, objects)


def _object(element: ElementTree.Element) -> VocObject:
    name = (element.findtext("name") or "").strip()
    texts = [(element.findtext(f"bndbox/{side}") or "").strip() for side in _SIDES]
    box = four_numbers([_number(element, f"bndbox/{side}") for side in _SIDES])
    if box is not None and box[0] < box[2] and box[1] < box[3]:
        # Pixels are counted from 1, and the last ones are part of the box.
        box = (box[0] - 1, box[1] - 1, box[2], box[3])
    is_difficult = bool(_number(element, "difficult"))
    return VocObject(name, box, is_difficult, f"{name!r} {' '.join(texts)}")


def _number(element: ElementTree.Element, path: str) -> float | None:
    try:
        return float(element.findtext(path) or "")
    except ValueError:
        return None
