/**
 * A commented example of a configuration, rendered from its schema: every key with its description. Keys with a default
 * are commented out and show it; the others have an example value. A test loads the result.
 */
import * as z from 'zod';
import type { ConfigSchema } from './load.ts';

/** The parts of JSON Schema that zod writes and this file reads. */
const nodeSchema = z.looseObject({
  description: z.string().optional(),
  example: z.string().optional(),
  default: z.unknown().optional(),
  properties: z.record(z.string(), z.unknown()).optional(),
  required: z.array(z.string()).optional(),
});
type Node = z.infer<typeof nodeSchema>;

/** Renders a schema as YAML text with comments. */
export function renderExample<T>(title: string, schema: ConfigSchema<T>): string {
  const type = schema({ directory: '/', credentialsDirectory: null, readSecrets: false, service: null });
  const root = nodeSchema.parse(z.toJSONSchema(type, { io: 'input', unrepresentable: 'any' }));
  const lines = [
    `# ${title}`,
    '# Keys that are commented out show their default or an example. Paths are relative to this file.',
  ];
  for (const [key, child] of Object.entries(root.properties ?? {})) {
    lines.push('', ...renderKey(key, nodeSchema.parse(child), '', isNeeded(root, key)));
  }
  return `${lines.join('\n')}\n`;
}

/** Comments have a space after the #; keys that are commented out do not. */
function renderKey(key: string, node: Node, indent: string, needed: boolean): string[] {
  const note = node.description === undefined ? [] : [`${indent}# ${node.description}`];
  const mark = needed ? '' : '#';
  if (node.properties === undefined) return [...note, `${indent}${mark}${key}: ${exampleOf(node)}`];
  const body = Object.entries(node.properties).flatMap(([name, child]) =>
    renderKey(name, nodeSchema.parse(child), `${indent}  `, needed && isNeeded(node, name)),
  );
  return [...note, `${indent}${mark}${key}:`, ...body];
}

/** Whether a key, or one below it, must be given. */
function isNeeded(parent: Node, key: string): boolean {
  const node = nodeSchema.parse(parent.properties?.[key] ?? {});
  if (node.properties === undefined) return (parent.required ?? []).includes(key) && node.default === undefined;
  return Object.keys(node.properties).some(name => isNeeded(node, name));
}

function exampleOf(node: Node): string {
  if (node.example !== undefined) return node.example;
  return typeof node.default === 'string' ? quote(node.default) : JSON.stringify(node.default);
}

function quote(text: string): string {
  return /^[\w./-]+$/.test(text) ? text : JSON.stringify(text);
}
