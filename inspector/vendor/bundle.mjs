// Bundles the libraries into ../ui/vendor, each with its licence, and writes down what they are:
// `versions.json` has the version and licence of every package and the SHA-256 of every file.
import { createHash } from "node:crypto";
import { mkdir, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { build } from "esbuild";

const out = new URL("../ui/vendor/", import.meta.url);

const bundles = {
  "preact.js": `
    import { h } from "preact";
    import htm from "htm";
    export { h, render, Fragment } from "preact";
    export * from "preact/hooks";
    export const html = htm.bind(h);`,
  "uplot.js": `export { default } from "uplot";`,
  "d3.js": `
    export { select } from "d3-selection";
    export { zoom, zoomIdentity } from "d3-zoom";
    export { interpolateViridis } from "d3-scale-chromatic";`,
};

await rm(out, { recursive: true, force: true });
await mkdir(out, { recursive: true });

const packages = new Set();
for (const [name, contents] of Object.entries(bundles)) {
  const result = await build({
    stdin: { contents, resolveDir: import.meta.dirname },
    bundle: true,
    format: "esm",
    target: "es2022",
    minify: true,
    legalComments: "none",
    metafile: true,
    write: false,
  });
  await writeFile(new URL(name, out), result.outputFiles[0].contents);
  for (const input of Object.keys(result.metafile.inputs)) {
    const found = input.match(/node_modules\/((?:@[^/]+\/)?[^/]+)/);
    if (found) packages.add(found[1]);
  }
}
await writeFile(
  new URL("uplot.css", out),
  await readFile(new URL("node_modules/uplot/dist/uPlot.min.css", import.meta.url)),
);

const described = {};
for (const name of [...packages].sort()) {
  const folder = new URL(`node_modules/${name}/`, import.meta.url);
  const { version, license } = JSON.parse(await readFile(new URL("package.json", folder)));
  const file = (await readdir(folder)).find((file) => /^licen[cs]e/i.test(file));
  if (!file) throw new Error(`${name} brings no licence text`);
  await writeFile(new URL(`LICENSE-${name}.txt`, out), await readFile(new URL(file, folder)));
  described[name] = { version, license };
}
const sha256 = {};
for (const file of (await readdir(out)).sort()) {
  const bytes = await readFile(new URL(file, out));
  sha256[file] = createHash("sha256").update(bytes).digest("hex");
}
const text = JSON.stringify({ packages: described, sha256 }, null, 2);
await writeFile(new URL("versions.json", out), `${text}\n`);
