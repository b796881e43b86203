import { defineConfig } from 'tsup';
import { preset } from '../../scripts/tsup-preset.ts';

export default defineConfig(
  preset({
    index: 'src/index.ts',
    cli: 'src/cli.ts',
    worker: 'src/worker.ts',
    'run-worker': 'src/run-worker.ts',
  }),
);
