/** The colours of classes in pictures: PASCAL VOC's, as Python and the device script draw them. */

/** Red, green and blue, 0 to 255. */
export type Colour = readonly [number, number, number];

/**
 * The colour of a class's number, 0 to 255: neighbours are easy to tell apart, 0 is black.
 *
 * Each bit of a number is one of a colour's bits, the lowest ones of its highest.
 */
export function classColour(number: number): Colour {
  const colour: [number, number, number] = [0, 0, 0];
  for (let bit = 0; bit < 8; bit++) {
    colour[bit % 3]! |= ((number >> bit) & 1) << (7 - Math.floor(bit / 3));
  }
  return colour;
}
