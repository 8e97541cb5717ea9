import js from '@eslint/js';
import { defineConfig } from 'eslint/config';
import tseslint from 'typescript-eslint';

export default defineConfig(
  { ignores: ['lib', 'node_modules'] },
  js.configs.recommended,
  tseslint.configs.strictTypeChecked,
  {
    languageOptions: {
      parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname }
    },
    rules: {
      'no-console': 'error',
      // commands, signals and React hand promises to nobody; `void` marks the ones meant so
      '@typescript-eslint/no-misused-promises': ['error', { checksVoidReturn: false }],
      // numbers in texts are the point of a progress display
      '@typescript-eslint/restrict-template-expressions': ['error', { allowNumber: true }],
      // `namespace` and parameter-less promises are JupyterLab's own idiom
      '@typescript-eslint/no-confusing-void-expression': ['error', { ignoreArrowShorthand: true }]
    }
  }
);
