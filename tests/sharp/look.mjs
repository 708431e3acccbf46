// Reads the names of pictures from stdin, as a JSON array, and writes what sharp sees of each to stdout.
// Of a picture: its size as shown, and CELLS x CELLS pixels of it, RGBA in sRGB; or the error.
import sharp from "sharp";

const CELLS = 16;

async function look(path) {
  try {
    const upright = await sharp(path, { failOn: "none" }).autoOrient().toColourspace("srgb").ensureAlpha().png().toBuffer();
    const { width, height } = await sharp(upright).metadata();
    const cells = await sharp(upright).resize(CELLS, CELLS, { fit: "fill", kernel: "linear" }).raw({ depth: "uchar" }).toBuffer();
    return { width, height, cells: [...cells] };
  } catch (error) {
    return { error: String(error.message) };
  }
}

let text = "";
for await (const piece of process.stdin) text += piece;
const seen = {};
for (const path of JSON.parse(text)) seen[path] = await look(path);
process.stdout.write(JSON.stringify(seen));
