// Which class is the background, by its name (unetres_edge.model.background).

const NAMES = new Set(["background", "backgrounds", "backgrnd", "bg", "bkg", "bkgd", "bgd", "hintergrund", "fond",
  "arrièreplan", "fondo", "sfondo", "fundo", "achtergrond", "tło", "фон", "背景", "배경"]);

/**
 * Return the id of the first class whose name says background; 0 where none does.
 * @param {{name: string}[]} classes
 */
export function findBackground(classes) {
  return Math.max(0, classes.findIndex(({ name }) => NAMES.has(name.replace(/[^\p{L}\p{N}]+/gu, "").toLowerCase())));
}
