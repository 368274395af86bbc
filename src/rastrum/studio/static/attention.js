// DRAW's attention (Gregor et al. 2015, equations 19, 20 and 25 to 27), in pixels that count from 0: what five parameters read and write.

// count filters over size pixels: a row of weights each, with their means stride apart about a centre; weights sum to one.
export function bank(count, size, centre, stride, sigma) {
  return Array.from({length: count}, (_, i) => {
    const mean = centre + (i - (count - 1) / 2) * stride;
    const distances = Array.from({length: size}, (_, a) => (a - mean) ** 2), least = Math.min(...distances);
    const weights = distances.map((distance) => Math.exp((least - distance) / (2 * sigma ** 2)));
    const sum = weights.reduce((a, b) => a + b);
    return weights.map((weight) => weight / sum);
  });
}

export const transposed = (matrix) => matrix[0].map((_, j) => matrix.map((row) => row[j]));

export const product = (a, b) => a.map((row) => transposed(b).map((column) => row.reduce((sum, value, k) => sum + value * column[k], 0)));

// image: rows of intensities. Returns the window as [centre row, centre column, height, width] in pixels, the filters F_Y and F_X,
// the patch γ F_Y x F_Xᵀ, and the image that F_Yᵀ (patch / γ) F_X is written to.
export function attend(image, {count, row, column, stride, sigma, gamma}) {
  const rows = bank(count, image.length, row, stride, sigma), columns = bank(count, image[0].length, column, stride, sigma);
  const read = product(product(rows, image), transposed(columns)), side = (count - 1) * stride + 1;
  return {window: [row, column, side, side], rows, columns, patch: read.map((each) => each.map((value) => gamma * value)),
    written: product(product(transposed(rows), read), columns)};
}
