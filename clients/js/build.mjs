// Builds `build/` (each module by itself, for the tests) and `dist/` (what is published: ESM and CommonJS, with types).
import { execFileSync } from 'node:child_process';
import { cpSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { minify } from 'terser';

const here = dirname(fileURLToPath(import.meta.url));
const compiler = join(dirname(createRequire(import.meta.url).resolve('typescript/package.json')), 'bin/tsc');

// Names that only the modules themselves use: of nothing that is kept, sent, or for applications.
const INTERNAL = new RegExp(
  `^(${[
    'accepted|acknowledged|answeredAt|arrived|askUpTo|begin|claims|complete|deleteAll|doubts|goodbye|health|hint|hurry|idle',
    'isOpen|isSet|keepConnected|keepOnly|keepPulling|keepSending|keepSubscribing|learn|loadUnsent|maxRetryAfter|nextTime',
    'offer|onOutcome|onSubscribed|opened|parts|position|pullAgain|pulled|pulledUpTo|puller|pullEvery|pulling|release',
    'retryAfter|sends|silence|steady|subscribeAgain|subscribeAnew|subscriptions|takeState|unsent|wiring|works|writesWait',
  ].join('|')})$`,
);

rmSync(join(here, 'build'), { recursive: true, force: true });
rmSync(join(here, 'dist'), { recursive: true, force: true });
execFileSync(process.execPath, [compiler, '-p', join(here, 'tsconfig.json')], { stdio: 'inherit' });

for (const [folder, format, extension] of [['esm', 'esm', '.js'], ['cjs', 'cjs', '.cjs']]) {
  const outdir = join(here, 'dist', folder);
  mkdirSync(outdir, { recursive: true });
  await build({
    entryPoints: [join(here, 'src/index.ts'), join(here, 'src/node.ts')],
    outdir,
    format,
    outExtension: { '.js': extension },
    bundle: true,
    minify: true,
    mangleProps: INTERNAL,
    splitting: false,
    platform: 'neutral',
    target: 'es2022',
    external: ['mqtt', 'node:*'],
    logLevel: 'warning',
  });
  for (const name of readdirSync(outdir)) {
    const file = join(outdir, name);
    const options = { module: format === 'esm', ecma: 2022, compress: { passes: 4, unsafe_arrows: true, unsafe_methods: true, keep_fargs: false, reduce_funcs: false } };
    writeFileSync(file, (await minify(readFileSync(file, 'utf8'), options)).code);
  }
  for (const name of readdirSync(join(here, 'build'))) {
    if (name.endsWith('.d.ts')) cpSync(join(here, 'build', name), join(outdir, name));
  }
}
// The same declarations describe CommonJS in a folder that says so.
writeFileSync(join(here, 'dist/cjs/package.json'), '{ "type": "commonjs" }\n');
