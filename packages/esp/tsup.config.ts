import { defineConfig } from 'tsup';
import { preset } from '../../scripts/tsup-preset.ts';

export default defineConfig(
  preset({
    index: 'src/index.ts',
    'engines-node': 'src/engines/node.ts',
  }),
);
