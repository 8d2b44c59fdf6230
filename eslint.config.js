import tseslint from 'typescript-eslint';

/** Arithmetic on bytes and on cells at known places reads better with `!` than with a branch that cannot be taken. */
const BYTES_AND_CELLS = [
  'agent/binlog/{binlog-stream,gtid-set,large-packets,row-image,table-map}.ts',
  'agent/snapshot/{chunk,chunk-query,keyed-snapshot,row-scan}.ts',
  'agent/stream/{batcher,change-buffer,key-index,keyed-buffer,keyless-buffer,row-versions,table-intake}.ts',
  'agent/values/*.ts',
  'agent/verify/{table-reading,touched}.ts',
  'applier/apply/{copies,delete,history-keeper,history-rows,history-sql,merge,quarantine-rows,row-text,upsert,version-steps,write-copies}.ts',
  'shared/batch/*.ts',
  'test/**/*.ts',
];
const PAGES = ['agent/web/assets/*.js', 'applier/web/assets/*.js', 'shared/web/*.js', 'deploy/demo/till/*.js'];

export default tseslint.config(
  { ignores: ['node_modules/', '.tap/', 'dist/', 'eslint.config.js'] },
  ...tseslint.configs.strictTypeChecked,
  {
    languageOptions: { parserOptions: { projectService: true } },
    rules: {
      // Numbers in messages are wanted; objects in messages are not.
      '@typescript-eslint/restrict-template-expressions': ['error', { allowNumber: true, allowBoolean: true }],
      '@typescript-eslint/switch-exhaustiveness-check': ['error', { considerDefaultExhaustiveForUnions: true }],
      '@typescript-eslint/return-await': ['error', 'in-try-catch'],
      '@typescript-eslint/no-confusing-void-expression': ['error', { ignoreArrowShorthand: true }],
      '@typescript-eslint/no-unnecessary-condition': ['error', { allowConstantLoopConditions: true }],
      eqeqeq: 'error',
    },
  },
  { files: PAGES, languageOptions: { parserOptions: { projectService: false, project: 'tsconfig.browser.json' } } },
  { files: BYTES_AND_CELLS, rules: { '@typescript-eslint/no-non-null-assertion': 'off' } },
);
