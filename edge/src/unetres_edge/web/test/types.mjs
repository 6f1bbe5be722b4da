// Check the modules with tsc and write the declarations of the public ones: node types.mjs [FOLDER], this package's unless given.
// They are read in a folder of their own: beside a .d.ts file tsc would believe that instead of the module.

import { execFileSync } from "node:child_process";
import { copyFileSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

const PUBLIC = ["card", "client", "errors", "familiarity", "segmenter"];
const home = resolve(dirname(fileURLToPath(import.meta.url)), "..");
const out = resolve(process.argv[2] ?? home);
const tsc = createRequire(import.meta.url).resolve("typescript/bin/tsc");
const folder = mkdtempSync(join(tmpdir(), "unetres-types-"));
try {
  for (const name of readdirSync(home)) {
    if (name.endsWith(".js") || name === "tsconfig.json") copyFileSync(join(home, name), join(folder, name));
  }
  execFileSync(process.execPath, [tsc, "-p", folder], { stdio: "inherit" });
  for (const name of PUBLIC) copyFileSync(join(folder, `${name}.d.ts`), join(out, `${name}.d.ts`));
} catch (error) {
  process.exitCode = error.status ?? 1;
  if (error.status === undefined) throw error;
} finally {
  rmSync(folder, { recursive: true });
}
