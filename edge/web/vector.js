// Class maps as polygons: the outlines of connected pixels, with holes, as GeoJSON in pixel coordinates.

/**
 * Trace every 4-connected region of each class but the first.
 * @param {{classMap: Uint8Array, width: number, height: number}} result
 * @param {{name: string}[]} classes
 * @returns {object} a GeoJSON FeatureCollection; x to the right, y down, pixel corners at whole numbers
 */
export function toGeoJSON({ classMap, width, height }, classes) {
  const region = label(classMap, width, height);
  const found = new Map();
  for (const { number, pixel, points, area } of rings(region, width, height)) {
    const one = found.get(number) ?? { outer: null, holes: [], area: 0, id: classMap[pixel] };
    if (area > 0) one.outer = points;
    else one.holes.push(points);
    one.area += area;
    found.set(number, one);
  }
  const features = Array.from(found.values(), ({ outer, holes, area, id }) => ({
    type: "Feature",
    properties: { class_id: id, class: classes[id].name, area_px: area },
    geometry: { type: "Polygon", coordinates: [outer, ...holes] },
  }));
  return { type: "FeatureCollection", features };
}

/** Number the 4-connected regions of each class from 1; class 0 stays 0. */
function label(map, width, height) {
  const region = new Int32Array(map.length);
  const stack = [];
  let last = 0;
  for (let seed = 0; seed < map.length; seed++) {
    if (!map[seed] || region[seed]) continue;
    region[seed] = ++last;
    stack.push(seed);
    while (stack.length) {
      const at = stack.pop();
      const x = at % width;
      for (const next of [x ? at - 1 : -1, x + 1 < width ? at + 1 : -1, at - width, at + width]) {
        if (next >= 0 && next < map.length && map[next] === map[at] && !region[next]) {
          region[next] = last;
          stack.push(next);
        }
      }
    }
  }
  return region;
}

const STEP = [[1, 0], [0, 1], [-1, 0], [0, -1]]; // right, down, left, up, with the region on the right hand

function* rings(region, width, height) {
  const at = (x, y) => (x >= 0 && y >= 0 && x < width && y < height ? region[y * width + x] : 0);
  // The pixels to the right and to the left of an edge that leaves the corner (x, y) in each direction.
  const right = (x, y, d) => at(x - (d === 1 || d === 2), y - (d >= 2));
  const left = (x, y, d) => at(x - (d >= 2), y - (d === 0 || d === 3));
  const seen = new Uint8Array(region.length);
  for (let pixel = 0; pixel < region.length; pixel++) {
    const number = region[pixel];
    const [x0, y0] = [pixel % width, Math.floor(pixel / width)];
    if (!number || seen[pixel] || at(x0, y0 - 1) === number) continue;
    const points = [];
    let [x, y, d, before, area] = [x0, y0, 0, -1, 0];
    do {
      if (d !== before) points.push([x, y]);
      before = d;
      if (d === 0) seen[y * width + x] = 1;
      area += STEP[d][1] * x;
      x += STEP[d][0];
      y += STEP[d][1];
      // Turn right first: pixels that only share a corner are parted.
      d = [1, 0, 3].map((turn) => (d + turn) % 4).find((way) => right(x, y, way) === number && left(x, y, way) !== number);
    } while (x !== x0 || y !== y0 || d !== 0);
    if (before === 0) points.shift();
    points.push(points[0]);
    yield { number, pixel, points, area };
  }
}
