// Colours of classes and of objects: apart from each other for most eyes, and visible on dark and on light pictures.

/** After Okabe and Ito (2008), brightened; the first is for the background, which is to look like one. */
const OWN = ["#93a8bf", "#ff9f1c", "#2ec4f1", "#21c58e", "#f6e05e", "#ff6f91", "#b78cff", "#d95f02", "#1f8fff", "#9ccc3c", "#e05fd0", "#c9a27a"];

/** The colour of PASCAL VOC for a class, which a data set has that has chosen none. @param {number} id */
function unchosen(id) {
  const rgb = [0, 0, 0];
  for (let bit = 7, rest = id; bit >= 0; bit--, rest >>= 3) {
    for (let channel = 0; channel < 3; channel++) rgb[channel] |= (rest >> channel & 1) << bit;
  }
  return `#${rgb.map((value) => value.toString(16).padStart(2, "0")).join("")}`;
}

/**
 * The colour in which a class is shown: the data set's where it has chosen one.
 * @param {{id: number, color: string}} row
 */
export function classColor({ id, color }) {
  return color.toLowerCase() !== unchosen(id) ? color : OWN[id] ?? hue(id);
}

/** A colour for an object, far from those of its neighbours in number. @param {number} id */
export function objectColor(id) {
  return hue(id);
}

/** @param {number} id */
function hue(id) {
  const at = id * 0.381966 % 1; // the golden section, which spreads any count of numbers evenly
  const [saturation, lightness] = [[0.9, 0.62], [0.75, 0.5], [0.85, 0.74]][id % 3];
  const part = (/** @type {number} */ n) => {
    const k = (n + at * 12) % 12;
    const value = lightness - saturation * Math.min(lightness, 1 - lightness) * Math.max(-1, Math.min(k - 3, 9 - k, 1));
    return Math.round(255 * value).toString(16).padStart(2, "0");
  };
  return `#${part(0)}${part(8)}${part(4)}`;
}

/** A pixel of ImageData as one number, little end first. @param {string} color "#rrggbb" @param {number} alpha 0 to 255 */
export function packed(color, alpha) {
  const value = parseInt(color.slice(1), 16);
  return ((alpha << 24) | ((value & 255) << 16) | (value & 0xff00) | (value >> 16)) >>> 0;
}
