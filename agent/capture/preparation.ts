/**
 * What happens before the binlog is read, over one connection: checks which server this is, its settings and rights, whether
 * it was restarted, and whether capture can resume there. If it cannot, an epoch begins.
 */
import { throwFaults } from '../../shared/process/findings.ts';
import { readCatalogue } from '../source/catalogue.ts';
import type { Catalogue } from '../source/catalogue.ts';
import { adoptRules, beginEpoch } from './new-epoch.ts';
import type { EpochOptions } from './new-epoch.ts';
import { checkRights, checkSettings, namesColumns } from '../source/preflight.ts';
import { UnnamedColumns } from '../binlog-restart.ts';
import type { BinlogRestart } from '../binlog-restart.ts';
import { resumePoint } from './resume-point.ts';
import { ServerCharsets } from '../values/server-charsets.ts';
import type { SourceConnection, SourceIdentity } from '../source/connection.ts';
import { tableKey } from '../../shared/table-name.ts';
import type { TableName } from '../../shared/table-name.ts';
import { throwSettingFaults } from '../source/unlogged-writes.ts';

/** Limit of the tables that are not captured but are looked up in the catalogue. */
const MAX_OTHER_TABLES = 1_000;

export interface PreparationOptions extends EpochOptions {
  readonly connect: () => Promise<SourceConnection>;
}

export interface Prepared {
  readonly identity: SourceIdentity;
  readonly catalogue: Catalogue;
  readonly charsets: ServerCharsets;
  /** An epoch has begun. */
  readonly begun: boolean;
}

export class Preparation {
  readonly #o: PreparationOptions;
  readonly #otherTables = new Map<string, TableName>();
  /** The stream has met tables without the names of their columns. */
  #columnsAreUnnamed = false;
  #identity: SourceIdentity | null = null;
  #settingsRightAt: string | null = null;
  #retentionSeconds: number | null = null;
  #charsets: { readonly version: string; readonly sets: ServerCharsets } | null = null;

  constructor(options: PreparationOptions) {
    this.#o = options;
  }

  /** The server that answered last; null: none yet. */
  get identity(): SourceIdentity | null {
    return this.#identity;
  }

  /** When this process last saw that the settings are right, by the server's clock, ISO; null: never. */
  get settingsRightAt(): string | null {
    return this.#settingsRightAt;
  }

  /** How long the server keeps its binlogs; null: without a time limit, or not known yet. */
  get retentionSeconds(): number | null {
    return this.#retentionSeconds;
  }

  /** Asks the catalogue from now on what the stream could not tell. */
  heed(restart: BinlogRestart): void {
    if (restart instanceof UnnamedColumns) this.#columnsAreUnnamed = true;
    for (const table of restart.tables) this.#otherTables.set(tableKey(table), table);
    // Drops the oldest ones; if the stream meets one again, it is added again.
    for (const key of [...this.#otherTables.keys()].slice(0, -MAX_OTHER_TABLES)) this.#otherTables.delete(key);
  }

  /**
   * Checks that everything that is committed gets into the binlog as capture needs it. An administrator may change that at
   * any time.
   * @throws TributaryError SOURCE_SETTING; UnloggedWrites if rows may have bypassed the binlog
   */
  async checkSettings(source: SourceConnection): Promise<void> {
    const at = await source.time();
    throwSettingFaults(await checkSettings(source, await source.identity()));
    this.#settingsRightAt = at;
    this.#retentionSeconds = await source.binlogRetentionSeconds();
  }

  /**
   * @param newEpoch why a new epoch must begin; null: it begins only if capture cannot resume
   * @param unbroken this process has begun the epoch, and has not lost the server since
   * @throws TributaryError if capture cannot begin; UnloggedWrites if rows may have bypassed the binlog
   */
  async prepare(newEpoch: string | null, unbroken: boolean): Promise<Prepared> {
    const { spool, tableFilter, logger } = this.#o;
    const source = await this.#o.connect();
    try {
      const identity = await source.identity();
      this.#identity = identity;
      await this.checkSettings(source);
      throwFaults(await checkRights(source, identity, tableFilter));
      const position = spool.position();
      let reason =
        newEpoch ??
        (position === null ? 'The spool is new.' : spool.isBegun() ? null : 'The epoch has no start marker.');
      if (position !== null && reason === null) {
        const resume = await resumePoint(source, identity, position, unbroken);
        if ('lost' in resume) reason = resume.lost;
        else {
          spool.discardOpenGroup();
          if (resume.at !== position) spool.savePosition(resume.at);
          await adoptRules(this.#o, source, resume.at);
        }
      }
      if (reason !== null) await beginEpoch(this.#o, source, identity, { reason, asked: newEpoch !== null });
      const run = await source.run();
      if (spool.serverSeen.see(run, reason !== null) && reason === null) {
        logger.warn(
          { run },
          'The branch database was restarted since the agent last saw it. The head office will compare the tables.',
        );
      }
      const catalogue = await readCatalogue(source, identity, tableFilter, {
        others: [...this.#otherTables.values()],
        definitions: this.#columnsAreUnnamed || !(await namesColumns(source)),
      });
      const charsets = await this.#loadCharsets(source, identity, catalogue.tables);
      return { identity, catalogue, charsets, begun: reason !== null };
    } finally {
      source.destroy();
    }
  }

  /** Loads the character sets that the branch's tables use, beside those that the stream has met. */
  async #loadCharsets(
    source: SourceConnection,
    identity: SourceIdentity,
    tables: readonly TableName[],
  ): Promise<ServerCharsets> {
    const version = `${identity.server} ${identity.version}`;
    if (this.#charsets?.version !== version) {
      this.#charsets = { version, sets: await ServerCharsets.read(source, identity.flavor === 'mariadb') };
    }
    const { sets } = this.#charsets;
    await sets.loadUsed(source, tables);
    return sets;
  }
}
