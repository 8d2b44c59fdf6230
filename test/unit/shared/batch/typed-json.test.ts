import t from 'tap';
import {
  isWellTyped,
  markedDocument,
  markedValue,
  printedJson,
  readTypedJson,
  typedJsonSql,
  UncarriedJson,
} from '../../../../shared/batch/typed-json.ts';

void t.test('a document that needs no marks is its text', t => {
  for (const text of ['{"a": [1, 2.5]}', '"!"', 'null', '"<DATE>"']) {
    t.equal(readTypedJson(text), text);
    t.equal(markedDocument(text, false), text);
  }
  t.end();
});

void t.test('types by the numbers of JSON_EXTRACT become marks before their values', t => {
  // Members first, each object’s before those of what is in it; then cells, the document itself the first of them.
  const text = '{"a": 1.50, "b": ["2024-01-01", {"c": 5}, 7], "d": {"e": "x \\"} ", "f": 2.50}}';
  const types = { 1: 'DECIMAL', 4: 'UNSIGNED INTEGER', 6: 'DECIMAL', 8: 'DATE', 10: 'DECIMAL' };
  t.equal(
    readTypedJson(`!${JSON.stringify(types)}${text}`),
    '!{"a": <DECIMAL>1.50, "b": [<DATE>"2024-01-01", {"c": <UNSIGNED INTEGER>5}, <DECIMAL>7], ' +
      '"d": {"e": "x \\"} ", "f": <DECIMAL>2.50}}',
  );
  t.equal(readTypedJson('!{"1": "DECIMAL"}1.50'), '!<DECIMAL>1.50');
  t.equal(readTypedJson('!{"1": "BLOB"}"base64:type15:AQI="'), '!<OPAQUE>"base64:type15:AQI="');
  t.end();
});

void t.test('MySQL 5.7: a DOUBLE that is printed as a whole number', t => {
  t.equal(readTypedJson('!{"1": "DOUBLE"}{"b": 1}'), '{"b": 1.0}', 'needs no mark');
  t.equal(readTypedJson('!{"1": "DOUBLE", "4": "DECIMAL"}{"b": -0, "c": [2.5]}'), '!{"b": -0.0, "c": [<DECIMAL>2.5]}');
  t.throws(() => readTypedJson('!!'), UncarriedJson, 'too many values to list');
  t.end();
});

void t.test('types that do not fit their text, or a text that the server cut, are refused', t => {
  for (const cell of [
    '!',
    '!{"1": "DATE"}1.50',
    '!{"2": "DECIMAL"}1.50',
    '!{"2": "DECIMAL"}{"a": 1.50}',
    '!{"1": "BLOB"}"base64:type249:AQ=="',
    '!{"1": "VECTOR"}"x"',
  ]) {
    t.throws(() => readTypedJson(cell), UncarriedJson, cell);
  }
  t.throws(() => markedValue('OPAQUE', '"base64:type249:AQ=="'), UncarriedJson);
  t.end();
});

void t.test('a document with marks becomes SQL of its text and of its values by their paths', t => {
  t.equal(
    typedJsonSql('!{"a b": <DECIMAL>-19.90, "c": [1, <DATE>"2024-02-31", {"é\'": <INTEGER>4294967296}]}'),
    `JSON_SET(CAST('{"a b": null, "c": [1, null, {"é''": null}]}' AS JSON), '$."a b"', CAST('-19.90' AS DECIMAL(4,2)), ` +
      `'$."c"[1]', CAST('2024-02-31' AS DATE), '$."c"[2]."é''"', CAST(4294967296 AS SIGNED))`,
  );
  t.equal(
    typedJsonSql('!<OPAQUE>"base64:type15:AQI="'),
    "JSON_SET(CAST('null' AS JSON), '$', X'0102')",
    'a document that is one value',
  );
  t.end();
});

void t.test('without its marks a document is the text that its server prints', t => {
  for (const [text, printed] of [
    ['{"a": [1, "<DATE>"]}', '{"a": [1, "<DATE>"]}'],
    ['!<DECIMAL>-1.50', '-1.50'],
    [
      '!{"a": <DATE>"2024-01-01", "<DATE>": [<DECIMAL>1.50, "!<DATE>", {"b": <OPAQUE>"base64:type15:AQI="}], "c": 1}',
      '{"a": "2024-01-01", "<DATE>": [1.50, "!<DATE>", {"b": "base64:type15:AQI="}], "c": 1}',
    ],
  ] as const) {
    t.equal(printedJson(text), printed);
  }
  t.end();
});

void t.test('what a branch could send to hurt is no document', t => {
  const deep = `!${'['.repeat(200)}<DECIMAL>1${']'.repeat(200)}`;
  for (const text of [
    '!',
    '!{}',
    '!{"a": 1}',
    '!<DECIMAL>1.5)',
    '!<DECIMAL>"1"',
    '!<DATE>"2024-01-01\'"',
    '!<DATE>2024-01-01',
    '!<BLOB>"base64:type15:AQI="',
    '!<OPAQUE>"base64:type15:AQI"',
    '!<OPAQUE>"base64:type254:"x',
    '!<DECIMAL>{"a": 1}',
    '!{"a: <DECIMAL>1}',
    '!{"a": <DECIMAL>1, }',
    `!<DECIMAL>${'1'.repeat(66)}`,
    `!<DECIMAL>${'1'.repeat(40)}.${'1'.repeat(30)}`,
    `!<OPAQUE>"base64:type16:${Buffer.alloc(9).toString('base64')}"`,
    deep,
  ]) {
    t.notOk(isWellTyped(text), text.slice(0, 60));
  }
  t.ok(isWellTyped('!<DECIMAL>1.5'));
  t.end();
});
