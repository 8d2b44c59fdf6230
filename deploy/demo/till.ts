/**
 * The till of the demo: a page that stands for a shop's own program, with the form of a sale. It knows the branch's MySQL
 * and nothing else. The button Sync alone asks the agent, with the token of the role `sync`.
 *
 * It is part of the demo and in no package. It listens on loopback.
 */
import { join } from 'node:path';
import mysql from 'mysql2/promise';
import type { Connection, ResultSetHeader, RowDataPacket } from 'mysql2/promise';
import * as z from 'zod';
import { createLogger } from '../../shared/process/logging.ts';
import { HttpError, loadAssets, startHttpServer } from '../../shared/process/http.ts';
import type { Route } from '../../shared/process/http.ts';
import { ROOT } from '../../shared/root.ts';

const SHOWN_SALES = 50;
const AGENT_WITHIN_MS = 10_000;

const whole = (what: string) => z.string().regex(/^\d{1,9}$/, `${what} must be a whole number`);
const money = (what: string) => z.string().regex(/^-?\d{1,8}(\.\d{1,2})?$/, `${what} must be an amount such as 12.50`);
const text = (what: string, most: number) => z.string().min(1, `${what} is missing`).max(most, `${what} is too long`);

/** The form's fields, which are the columns of the seed's table; all as text. */
const saleSchema = z.object({
  id: z.string().regex(/^\d{0,18}$/, 'Id must be a whole number, or empty for the next one'),
  product_id: whole('Product id'),
  date: z
    .string()
    .regex(/^$|^\d{4}-\d\d-\d\d[ T]\d\d:\d\d(:\d\d)?$/, 'Date must be like 2026-12-01 14:32:00, or empty'),
  region: text('Region', 20),
  product_name: text('Product', 100),
  quantity: whole('Quantity'),
  cost: money('Cost'),
  tax: money('Tax'),
  total_sales: money('Total'),
});
export type Sale = z.infer<typeof saleSchema>;

/** What the table has, which others write too: any text, and '' for NULL. */
const cell = z
  .string()
  .nullable()
  .transform(value => value ?? '');
const rowsSchema = z.array(
  z.object({
    id: cell,
    product_id: cell,
    date: cell,
    region: cell,
    product_name: cell,
    quantity: cell,
    cost: cell,
    tax: cell,
    total_sales: cell,
  } satisfies Record<keyof Sale, typeof cell>),
);

const officeSchema = z.object({
  sentence: z.object({ says: z.array(z.union([z.string(), z.object({ time: z.string() })])) }),
  sync: z.object({ state: z.enum(['running', 'done', 'failed']) }).nullable(),
});

/** What the agent says, for the line below the buttons. */
export interface TillOffice {
  readonly says: z.infer<typeof officeSchema>['sentence']['says'];
  readonly sync: 'running' | 'done' | 'failed' | null;
}

export interface TillOptions {
  readonly branch: string;
  readonly region: string;
  readonly port: number;
  /** Where the table `product_sales` is. */
  readonly database: {
    readonly host: string;
    readonly port: number;
    readonly user: string;
    readonly password: string;
    readonly database: string;
  };
  readonly agent: { readonly url: string; readonly syncToken: string };
}

export interface Till {
  readonly url: string;
  close(): Promise<void>;
}

/** Opens the till's page. */
export async function openTill(options: TillOptions): Promise<Till> {
  const { port } = options;
  const pool = mysql.createPool({ ...options.database, charset: 'utf8mb4', connectionLimit: 2 });
  const server = await startHttpServer({
    listen: { host: '127.0.0.1', port },
    metrics: () => Promise.resolve(''),
    ready: () => ({ ready: true, reasons: [] }),
    status: () => ({ demo: true }),
    tokens: () => ({}),
    logger: createLogger({ level: 'silent', name: 'till' }),
    assets: loadAssets(join(ROOT, 'shared/web'), join(import.meta.dirname, 'till')),
    routes: routesOf(options, pool),
  });
  return {
    url: `http://127.0.0.1:${port}/`,
    close: async () => {
      await server.close();
      await pool.end();
    },
  };
}

/** Whoever reaches a till may sell, as in a shop. */
function routesOf({ branch, region, agent }: TillOptions, database: Pick<Connection, 'query'>): Route[] {
  const action = (name: string, act: (sale: Sale) => Promise<string>): Route => ({
    method: 'POST',
    path: `/api/sales/${name}`,
    role: 'look',
    handle: async ({ body }) => ({ json: { said: await act(saleOf(body)) } }),
  });
  return [
    {
      method: 'GET',
      path: '/api/sales',
      handle: async () => ({ json: { branch, region, sales: await readSales(database) } }),
    },
    action('add', async sale => {
      const [{ insertId }] = await database.query<ResultSetHeader>('INSERT INTO product_sales SET ?', [
        columnsOf(sale),
      ]);
      return `Sale ${sale.id || insertId} was added.`;
    }),
    action('update', async sale => {
      const [{ affectedRows }] = await database.query<ResultSetHeader>('UPDATE product_sales SET ? WHERE id = ?', [
        columnsOf({ ...sale, id: '' }),
        idOf(sale),
      ]);
      return found(affectedRows, sale, 'changed');
    }),
    action('delete', async sale => {
      const [{ affectedRows }] = await database.query<ResultSetHeader>('DELETE FROM product_sales WHERE id = ?', [
        idOf(sale),
      ]);
      return found(affectedRows, sale, 'deleted');
    }),
    {
      method: 'POST',
      path: '/api/sync',
      role: 'look',
      handle: async () => {
        await askAgent(`${agent.url}/api/sync`, {
          method: 'POST',
          headers: { 'content-type': 'application/json', 'x-tributary-token': agent.syncToken },
          body: '{}',
        });
        return { status: 202, json: { said: 'The agent sends what waits.' } };
      },
    },
    {
      method: 'GET',
      path: '/api/office',
      handle: async () => {
        const { sentence, sync } = officeSchema.parse(await askAgent(`${agent.url}/api/status`, {}));
        return { json: { says: sentence.says, sync: sync?.state ?? null } satisfies TillOffice };
      },
    },
  ];
}

function saleOf(body: unknown): Sale {
  const sale = saleSchema.safeParse(body);
  if (sale.success) return sale.data;
  throw new HttpError(400, 'BAD_REQUEST', `${sale.error.issues[0]?.message ?? 'The form is incomplete'}.`);
}

/** What the form leaves open is left out: the id, and the date, which is now then. */
function columnsOf({ id, date, ...rest }: Sale): Record<string, string> {
  const now = new Date().toISOString().slice(0, 19).replace('T', ' ');
  return { ...(id === '' ? {} : { id }), date: date === '' ? now : date.replace('T', ' '), ...rest };
}

function idOf({ id }: Sale): string {
  if (id !== '') return id;
  throw new HttpError(400, 'BAD_REQUEST', 'Choose a sale first, or give its id.');
}

function found(affectedRows: number, { id }: Sale, done: string): string {
  if (affectedRows === 0) throw new HttpError(404, 'NOT_FOUND', `There is no sale ${id}.`);
  return `Sale ${id} was ${done}.`;
}

async function readSales(database: Pick<Connection, 'query'>): Promise<Sale[]> {
  const [rows] = await database.query<RowDataPacket[]>(
    `SELECT CAST(id AS CHAR) AS id, CAST(product_id AS CHAR) AS product_id,
       DATE_FORMAT(date, '%Y-%m-%d %H:%i:%s') AS date, region, product_name, CAST(quantity AS CHAR) AS quantity,
       CAST(cost AS CHAR) AS cost, CAST(tax AS CHAR) AS tax, CAST(total_sales AS CHAR) AS total_sales
     FROM product_sales ORDER BY product_sales.id DESC LIMIT ${SHOWN_SALES}`,
  );
  return rowsSchema.parse(rows);
}

async function askAgent(url: string, request: RequestInit): Promise<unknown> {
  const answer = await fetch(url, { ...request, signal: AbortSignal.timeout(AGENT_WITHIN_MS) }).catch(() => null);
  if (answer === null) throw new HttpError(503, 'AGENT_AWAY', 'The agent of this branch does not answer.');
  if (answer.ok) return answer.json();
  throw new HttpError(502, 'AGENT_REFUSES', `The agent refuses: ${await answer.text()}`);
}
