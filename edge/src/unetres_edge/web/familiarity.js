// Whether a picture is like those that a network was trained on, and the network as sure of it as of others
// (unetres_edge.images.features, .results.doubt, .model.familiarity).

const WINDOW = 32, EARLIER_WINDOW = 64, GRID = 4, BLOCK = 8;
const STEPS = [1, 2, 4, 8];
const ALARM = 0.05, ALONE = 0.2, BEYOND = 5, REASONS = 3;
const SWAPPED = "red and blue look swapped";
const SURE = 65535, LEVELS = 256, STEPS_OF_A_NAT = 16, PIXELS = 4096, LEAST = 1.17549435e-38;
const UNSURE = "the network is less sure than of any held-out image";
const LESS_SURE = "the network is less sure than of most held-out images";
const LESS_BORDERS = "the network is less sure of borders than usual", MORE_BORDERS = "the network is surer of borders than usual";
const SIXTEENTHS = 16, FARTHEST = 1 << 20; // of a spread, and of those
const FLOOR = 256; // added to doubts that are compared
const WHOLE = 10_000, MARGIN = 500; // an mIoU of 1, and by how much a mask must look worse than others
const STEPS_OF_A_DISTANCE = 64, FARTHEST_TOLD = 65535, MOST_TREES = 256, MOST_LEAVES = 256;
const TOGETHER = "its levels, textures and colours do not go together as in the training images";
/** @type {Record<string, [string, string]>} */
const FEATURES = {
  mean: ["darker than any training image", "brighter than any training image"],
  shadows: ["shadows darker than in any training image", "no shadows as dark as in the training images"],
  middle: ["darker than any training image", "brighter than any training image"],
  lights: ["no lights as bright as in the training images", "lights brighter than in any training image"],
  contrast: ["less contrast than any training image", "more contrast than any training image"],
  black: ["", "more black than any training image"],
  white: ["", "more white than any training image"],
  detail: ["less detail than any training image", "more detail than any training image"],
  fine: ["blurred, or larger than the training images", "noisier, or of finer grain than any training image"],
  medium: ["blurred, or larger than the training images", "of finer grain than any training image"],
  coarse: ["blurred, or larger than the training images", "of finer grain than any training image"],
  noise: ["smoother than any training image", "noisier than any training image"],
  edges: ["noisier than any training image", ""],
  blocks: ["", "blocks of a stronger compression than in any training image"],
  "red to blue": ["bluer than any training image", "redder than any training image"],
  green: ["less green than any training image", "greener than any training image"],
  colour: ["less colourful than any training image", "more colourful than any training image"],
  tint: ["less colourful than any training image", "more colourful than any training image"],
};
const NAMES = Object.keys(FEATURES);
const GREY = 14;

/**
 * Statistics of the features of training pictures, and the distances of held-out ones.
 * @typedef {object} Familiarity
 * @property {string[]} features
 * @property {number[]} mean
 * @property {number[]} spread
 * @property {number[]} low
 * @property {number[]} high
 * @property {number[][]} whiten
 * @property {number[]} distances
 * @property {number} images
 * @property {number} [window] px; 64 in older cards
 * @property {number[]} [doubts] of the network about the held-out pictures, each 0 to 65535
 * @property {number[]} [borders] doubts of the network at the borders of regions, in the same order
 * @property {number[][]} [pictures] of training pictures, features less their mean, in sixteenths of a spread
 * @property {number} [held_out] pictures that the network was not trained on
 * @property {QualityTrees | null} [quality] trees that tell the mIoU to expect of a mask
 */

/**
 * Trees of one depth over whole numbers (unetres_edge.model.quality).
 * @typedef {object} QualityTrees
 * @property {number} inputs how many numbers are told of a picture
 * @property {number[][]} splits of each tree from the top down: the place of a number and the limit above which it goes right
 * @property {number[][]} leaves of each tree from left to right, mIoU in ten-thousandths
 * @property {number[]} held_out what is expected of each held-out picture
 */

/**
 * What a network says of one image, in whole numbers (unetres_edge.results.doubt).
 * @typedef {object} Doubts
 * @property {number} inside mean doubt inside of regions, 0 to 65535
 * @property {number} border mean doubt at borders
 * @property {number} atBorders share of the pixels that are at borders, of 65535
 * @property {number} overlap expected mIoU by the two likeliest classes of each pixel, of 65535
 */

/**
 * Say how familiar a picture is, and in words why it is not, if so; null where the card cannot tell.
 * @param {Familiarity | null | undefined} known
 * @param {number[] | null} features as `featuresOf` gives them
 * @param {Doubts | null} doubts of the network; null where they are not told
 * @returns {{familiarity: number | null, warnings: string[], quality: number | null}} with the mIoU to expect of the mask,
 *   null where the card cannot tell
 */
export function judge(known, features, doubts) {
  if (!known || !features) return { familiarity: null, warnings: [], quality: null };
  const told = known.doubts?.length ? doubts : null;
  const quality = told && expectedQuality(known, features, told);
  const familiarity = pValue(known, features, told, quality);
  const warnings = familiarity > ALARM ? [] : reasons(known, features, told, quality);
  return { familiarity, warnings, quality: quality === null ? null : quality / WHOLE };
}

/** The mIoU, in ten-thousandths, to expect of a mask; null where the card cannot tell, or tells its trees other numbers. */
function expectedQuality(known, features, { inside, border, atBorders, overlap }) {
  const { quality: trees, mean, spread } = known;
  if (!trees || trees.inputs !== features.length + 5) return null;
  const clipped = (value) => Math.max(-FARTHEST_TOLD, Math.min(FARTHEST_TOLD, Math.floor(value)));
  const told = features.map((value, at) => clipped(SIXTEENTHS * ((value - mean[at]) / spread[at])));
  told.push(clipped(STEPS_OF_A_DISTANCE * distanceOf(known, features)), inside, border, atBorders, overlap);
  const sum = trees.splits.reduce((total, splits, number) => {
    let node = 0;
    while (2 * node < splits.length) node = 2 * node + (told[splits[2 * node]] > splits[2 * node + 1] ? 2 : 1);
    return total + trees.leaves[number][node - splits.length / 2];
  }, 0);
  return Math.floor(sum / trees.splits.length);
}

/**
 * The features of a prepared picture; null where the card cannot judge them.
 * @param {Familiarity | null | undefined} known
 * @param {{data: Uint8Array, height: number, width: number, channels: number}} image
 * @param {boolean} bgr whether blue comes first
 * @returns {number[] | null}
 */
export function featuresOf(known, image, bgr) {
  const names = known ? known.features.join() : "";
  if (!known || (names !== namesOf(3).join() && names !== namesOf(1).join())) return null;
  return pictureFeatures(image, bgr, known.window ?? EARLIER_WINDOW);
}

/** The doubt of a network about one image, added up as its rows are done. */
export class Doubt {
  #levels = [];
  #labels = [];
  #across = 0; // pixels of a row that are looked at
  #moved;

  /**
   * @param {number} height
   * @param {number} width
   * @param {{classes: unknown[], activation?: string, calibration?: {temperature: number, bias: number[]} | null}} card
   */
  constructor(height, width, { classes, activation = "softmax", calibration }) {
    this.step = Math.max(1, Math.floor(Math.sqrt(Math.floor((height * width) / PIXELS))));
    this.width = width;
    this.activation = activation;
    this.calibration = calibration;
    this.classes = classes.length;
    this.#moved = new Float64Array(classes.length);
  }

  /**
   * Take a row of scores; those between the rows that are looked at are passed over.
   * @param {number} row
   * @param {Float32Array} scores
   * @param {number} at where those of the row begin
   */
  add(row, scores, at) {
    const { step, width, classes } = this;
    if (row % step !== step >> 1) return;
    this.#across = 0;
    for (let x = step >> 1; x < width; x += step, this.#across++) {
      const from = at + x * classes;
      let best = 0;
      for (let c = 1; c < classes; c++) if (scores[from + c] > scores[from + best]) best = c;
      this.#labels.push(best);
      this.#levels.push(this.#level(scores, from));
    }
  }

  #level(scores, at) {
    const { activation, calibration, classes } = this;
    const moved = this.#moved;
    for (let c = 0; c < classes; c++) {
      let score = scores[at + c];
      if (activation === "none") score = Math.log(Math.max(score, LEAST));
      if (calibration) score *= 1 / calibration.temperature;
      moved[c] = calibration?.bias.length ? score + calibration.bias[c] : score;
    }
    let best = -Infinity, second = -Infinity;
    for (const score of moved) {
      if (score > best) [best, second] = [score, best];
      else if (score > second) second = score;
    }
    const apart = activation === "sigmoid" ? Math.abs(best) : best - second;
    return Math.min(Math.floor(STEPS_OF_A_NAT * apart), LEVELS - 1);
  }

  /**
   * What is told of the image, of all the rows so far.
   * @returns {Doubts}
   */
  get values() {
    const labels = this.#labels, levels = this.#levels, across = this.#across;
    let sum = 0, count = 0, all = 0;
    labels.forEach((label, at) => {
      const x = at % across;
      const same = (other) => other < 0 || other >= labels.length || labels[other] === label;
      const doubt = DOUBTS[levels[at]];
      all += doubt;
      if ((x && !same(at - 1)) || (x + 1 < across && !same(at + 1)) || !same(at - across) || !same(at + across)) return;
      sum += doubt;
      count++;
    });
    const mean = (total, pixels) => Math.floor(total / Math.max(1, pixels));
    const borders = labels.length - count;
    return {
      inside: count ? mean(sum, count) : mean(all, labels.length),
      border: mean(all - sum, borders),
      atBorders: mean(SURE * borders, labels.length),
      overlap: this.#overlap(),
    };
  }

  /** The expected mIoU, of 65535: a pixel has its label with the chance that its level gives, else each other class alike. */
  #overlap() {
    const right = new Array(this.classes).fill(0), counts = new Array(this.classes).fill(0);
    let all = 0;
    this.#labels.forEach((label, at) => {
      const chance = RIGHT[this.#levels[at]];
      right[label] += chance;
      counts[label]++;
      all += SURE - chance;
    });
    let sum = 0, classes = 0;
    counts.forEach((count, label) => {
      if (!count) return;
      const missed = Math.floor((all - (SURE * count - right[label])) / Math.max(1, this.classes - 1));
      sum += Math.floor((SURE * right[label]) / (SURE * count + missed));
      classes++;
    });
    return Math.floor(sum / Math.max(1, classes));
  }
}

const RIGHT = Array.from({ length: LEVELS }, (_, level) => Math.floor(SURE / (1 + Math.exp(-level / STEPS_OF_A_NAT)) + 0.5));

const DOUBTS = Array.from({ length: LEVELS }, (_, level) => {
  const other = 1 / (1 + Math.exp(level / STEPS_OF_A_NAT));
  return Math.floor(-SURE * (other * Math.log2(other) + (1 - other) * Math.log2(1 - other)) + 0.5);
});

/** Refuse statistics that cannot be meant, by calling `need` with false. */
export function checkFamiliarity(known, need) {
  const numbers = (values) => Array.isArray(values) && values.every((value) => Number.isFinite(value) && Math.abs(value) < 1e9);
  const { features, whiten, distances } = known;
  need(Array.isArray(features) && features.every((name) => typeof name === "string"), "familiarity");
  for (const list of [known.mean, known.spread, known.low, known.high]) {
    need(numbers(list) && list.length === features.length, "familiarity");
  }
  need(Array.isArray(whiten) && whiten.length === features.length, "familiarity");
  need(whiten.every((row, place) => numbers(row) && row.length === features.length - place), "familiarity");
  need(known.spread.every((value) => value > 0) && Number.isInteger(known.images) && known.images > 0, "familiarity");
  need(numbers(distances) && distances.length > 0 && distances.length <= 4096, "familiarity");
  const { window = EARLIER_WINDOW, doubts = [], borders = [], pictures = [], held_out: held = 0 } = known;
  need(Number.isInteger(window) && window >= BLOCK && window <= 4096 && window % BLOCK === 0, "familiarity");
  need(Number.isInteger(held) && held >= 0 && Array.isArray(doubts) && Array.isArray(borders), "familiarity");
  need([...doubts, ...borders].every((each) => Number.isInteger(each) && each >= 0 && each <= SURE), "familiarity");
  need(Array.isArray(pictures) && pictures.length <= 4096, "familiarity");
  const whole = (value) => Number.isInteger(value) && Math.abs(value) < FARTHEST;
  need(pictures.every((each) => Array.isArray(each) && each.length === features.length && each.every(whole)), "familiarity");
  need(!doubts.length || doubts.length === distances.length, "familiarity");
  need(!borders.length || borders.length === doubts.length, "familiarity");
  if (known.quality != null) checkQuality(known.quality, distances.length, need);
}

function checkQuality({ inputs, splits, leaves, held_out: held }, count, need) {
  const lists = (values) => Array.isArray(values) && values.every((each) => Array.isArray(each) && each.every(Number.isInteger));
  const scores = (values) => values.every((value) => value >= 0 && value <= WHOLE);
  need(Number.isInteger(inputs) && lists(splits) && lists(leaves) && lists([held]) && held.length === count, "familiarity");
  need(splits.length > 0 && splits.length <= MOST_TREES && splits.length === leaves.length, "familiarity");
  const width = leaves[0].length;
  need(width > 1 && width <= MOST_LEAVES && (width & (width - 1)) === 0, "familiarity");
  need(leaves.every((each) => each.length === width && scores(each)) && scores(held), "familiarity");
  need(splits.every((each) => each.length === 2 * (width - 1)), "familiarity");
  const known = (value, at) => (at % 2 ? Math.abs(value) < FARTHEST : value >= 0 && value < inputs);
  need(splits.every((each) => each.every(known)), "familiarity");
}

const namesOf = (channels) => (channels === 3 ? NAMES : NAMES.slice(0, GREY));

const beyond = (known, features) =>
  features.map((value, at) => Math.max(known.low[at] - value, value - known.high[at]) / known.spread[at]);

/** How far features are from those of the nearest training picture; of earlier cards, from their mean. */
function distanceOf(known, features) {
  const z = features.map((value, at) => (value - known.mean[at]) / known.spread[at]);
  if (known.pictures?.length) {
    return Math.min(...known.pictures.map((picture) => lengthOf(known, z.map((value, at) => value - picture[at] / SIXTEENTHS))));
  }
  return lengthOf(known, z) + BEYOND * Math.max(0, ...beyond(known, features));
}

function lengthOf({ whiten }, z) {
  let squares = 0;
  whiten.forEach((row, place) => {
    squares += row.reduce((sum, value, at) => sum + value * z[place + at], 0) ** 2;
  });
  return Math.sqrt(squares) / Math.sqrt(z.length);
}

const below = (values, limit) => values.filter((each) => each < limit).length;

/** How many held-out pictures are as strange, the picture itself counted in, as a share. */
function pValue(known, features, told, quality) {
  let usual = tails([...known.distances, distanceOf(known, features)]).map((each) => (each < ALONE ? 0 : each));
  if (quality !== null) {
    const lacks = tails([...known.quality.held_out.map((each) => WHOLE - each), Math.max(0, WHOLE - quality - MARGIN)]);
    usual = usual.map((value, at) => (value === 0 ? 0 : lacks[at]));
  } else if (told) {
    const borders = shiftOf([...(known.borders ?? []), told.border]); // they tell bad masks best, and count twice
    for (const values of [[...known.doubts, told.inside], borders, borders]) {
      if (values.length < usual.length) continue; // earlier cards do not know borders
      const each = tails(values);
      usual = usual.map((value, at) => value * each[at]);
    }
  }
  const own = usual[usual.length - 1];
  return usual.filter((each) => each <= own).length / usual.length;
}

const middleOf = (values) => Float64Array.from(values).sort()[values.length >> 1];

/** How far each doubt at borders is from the middle one: more is a worse sign than less. */
function shiftOf(values) {
  const middle = middleOf(values);
  return values.map((each) => {
    const shift = (Math.max(each, middle) + FLOOR) / (Math.min(each, middle) + FLOOR);
    return each > middle ? shift * shift : shift;
  });
}

/** How many are as large as each value, and for the largest which share of it the second is. */
function tails(values) {
  const [second, top] = [0, ...values].sort((a, b) => a - b).slice(-2);
  return values.map((value) => (value === top && top > second ? second / top : values.length - below(values, value)));
}

/** Whether more than one in twenty held-out pictures are as far away. */
function isNear({ distances, ...known }, features) {
  const count = distances.length + 1;
  return (count - below(distances, distanceOf(known, features))) / count > ALARM;
}

function isPoor({ held_out: held }, quality) {
  return (1 + held.filter((each) => each <= quality + MARGIN).length) / (1 + held.length) <= ALARM;
}

function reasons(known, features, told, quality) {
  const words = [];
  if (known.features.length === NAMES.length) {
    const swapped = features.map((value, at) => (at === GREY ? -value : value));
    if (isNear(known, swapped) && !isNear(known, features)) words.push(SWAPPED);
  }
  if (quality !== null && isPoor(known.quality, quality)) {
    const percent = Math.floor((quality + WHOLE / 200) / (WHOLE / 100));
    words.push(`its mask is likely poor, with an mIoU of about ${percent} %`);
  }
  if (told) {
    const { doubts, distances, borders = [] } = known;
    const surer = below(doubts, told.inside), nearer = below(distances, distanceOf(known, features));
    if (surer === doubts.length) words.push(UNSURE);
    else if (surer > nearer) words.push(LESS_SURE);
    const apart = shiftOf([...borders, told.border]), own = apart.pop(), usual = below(apart, own);
    if (borders.length && (usual === borders.length || usual > Math.max(surer, nearer))) {
      words.push(told.border > middleOf([...borders, told.border]) ? LESS_BORDERS : MORE_BORDERS);
    }
  }
  const far = beyond(known, features);
  const order = far.map((_, at) => at).sort((a, b) => far[b] - far[a] || a - b);
  for (const at of order) {
    const word = FEATURES[known.features[at]][features[at] > known.high[at] ? 1 : 0];
    if (far[at] > 0 && word && !words.includes(word)) words.push(word);
  }
  return words.length ? words.slice(0, REASONS) : [TOGETHER];
}

/** The features of a picture, in the order of their names. */
export function pictureFeatures({ data, height, width, channels }, bgr = false, window = WINDOW) {
  const levels = new Float64Array(256);
  const sums = new Float64Array(7), counts = new Float64Array(7);
  const colors = new Float64Array(4);
  let pixels = 0;
  for (const [top, bottom] of spans(height, window)) {
    for (const [left, right] of spans(width, window)) {
      const [h, w] = [bottom - top, right - left];
      const grey = new Int16Array(h * w);
      for (let y = 0, to = 0; y < h; y++) {
        for (let x = 0, at = ((top + y) * width + left) * channels; x < w; x++, to++, at += channels) {
          let sum = 0;
          for (let c = 0; c < channels; c++) sum += data[at + c];
          grey[to] = Math.floor((sum + (channels >> 1)) / channels);
          levels[grey[to]]++;
          if (channels !== 3) continue;
          const [red, green, blue] = bgr ? [data[at + 2], data[at + 1], data[at]] : [data[at], data[at + 1], data[at + 2]];
          const warm = red - blue, leaf = 2 * green - red - blue;
          colors[0] += warm;
          colors[1] += leaf;
          colors[2] += Math.abs(warm);
          colors[3] += Math.abs(leaf);
        }
      }
      addDifferences(grey, w, 1, h, w, sums, counts);
      addDifferences(grey, 1, w, w, h, sums, counts);
      pixels += h * w;
    }
  }
  const means = Array.from(sums, (sum, at) => sum / Math.max(counts[at], 1));
  const found = [...ofLevels(levels), ...ofDifferences(means)];
  if (channels !== 3) return found;
  const [warm, leaf, anyWarm, anyLeaf] = Array.from(colors, (sum) => sum / Math.max(pixels, 1));
  return [...found, warm / 255, leaf / 510, Math.log(anyWarm + 0.5), Math.log(anyLeaf + 0.5)];
}

function spans(size, window) {
  if (size <= window * GRID) return [[0, size]];
  return Array.from({ length: GRID }, (_, number) => {
    const start = Math.floor(Math.floor(((size - window) * number) / (GRID - 1)) / BLOCK) * BLOCK;
    return [start, start + window];
  });
}

/** Add differences along lines: `line` is from one line to the next, `step` from a pixel to the next in its line. */
function addDifferences(grey, line, step, lines, length, sums, counts) {
  for (let y = 0; y < lines; y++) {
    const start = y * line;
    STEPS.forEach((apart, place) => {
      for (let x = 0; x + apart < length; x++) {
        const difference = Math.abs(grey[start + (x + apart) * step] - grey[start + x * step]);
        sums[place] += difference;
        if (apart > 1) continue;
        sums[4] += difference * difference;
        if (x % BLOCK === BLOCK - 1) {
          sums[6] += difference;
          counts[6]++;
        }
      }
      counts[place] += Math.max(0, length - apart);
    });
    counts[4] += Math.max(0, length - 1);
    for (let x = 1; x + 1 < length; x++) {
      const at = start + x * step;
      sums[5] += Math.abs(grey[at + step] - 2 * grey[at] + grey[at - step]);
    }
    counts[5] += Math.max(0, length - 2);
  }
}

function ofLevels(levels) {
  const total = Math.max(1, levels.reduce((a, b) => a + b, 0));
  const mean = levels.reduce((sum, count, level) => sum + count * level, 0) / total;
  const square = levels.reduce((sum, count, level) => sum + count * level * level, 0) / total;
  const share = (percent) => {
    let below = 0, level = 0;
    while (level < 256 && (below += levels[level]) * 100 < total * percent) level++;
    return level / 255;
  };
  return [
    mean / 255,
    ...[5, 50, 95].map(share),
    Math.log(Math.sqrt(Math.max(0, square - mean * mean)) + 0.5),
    Math.sqrt((levels[0] + levels[1]) / total),
    Math.sqrt((levels[254] + levels[255]) / total),
  ];
}

/** @param {number[]} means */
function ofDifferences(means) {
  const [one, two, four, eight, square, bent, edges] = means;
  const ratio = (a, b) => Math.log((a + 0.05) / (b + 0.05));
  return [
    Math.log(eight + 0.05),
    ratio(one, two),
    ratio(two, four),
    ratio(four, eight),
    ratio(bent, one),
    ratio(Math.sqrt(square), one),
    ratio(edges, one),
  ];
}
