// How many regions of a class there are: pixels connected through sides and corners.

/**
 * @param {{classMap: Uint8Array, width: number, height: number}} result
 * @param {number} numClasses
 * @param {number} [least] px; smaller regions are not counted
 * @returns {number[]} of each class
 */
export function countRegions({ classMap, width, height }, numClasses, least = 16) {
  const parent = new Int32Array(classMap.length);
  const find = (at) => {
    while (parent[at] !== at) at = parent[at] = parent[parent[at]];
    return at;
  };
  for (let y = 0, at = 0; y < height; y++) {
    for (let x = 0; x < width; x++, at++) {
      parent[at] = at;
      const before = [x && at - 1, y && x && at - width - 1, y && at - width, y && x + 1 < width && at - width + 1];
      for (const [i, other] of before.entries()) {
        const there = [x > 0, y > 0 && x > 0, y > 0, y > 0 && x + 1 < width][i];
        if (there && classMap[Number(other)] === classMap[at]) {
          const [a, b] = [find(at), find(Number(other))];
          parent[Math.max(a, b)] = Math.min(a, b);
        }
      }
    }
  }
  const sizes = new Int32Array(classMap.length);
  for (let at = 0; at < classMap.length; at++) sizes[find(at)]++;
  const counts = new Array(numClasses).fill(0);
  for (let at = 0; at < classMap.length; at++) if (parent[at] === at && sizes[at] >= least) counts[classMap[at]]++;
  return counts;
}
